"""`deit-fast bench loader`."""

from __future__ import annotations

from typing import Any

from deit_fast.commands.command import Call, Command, of


def _run(call: Call) -> dict[str, Any]:
    from deit_fast.benchmarks.loader import bench_loader

    return bench_loader(call.config)


KIND = Command(
    "views per second of the data path, by stage, by threads, and beside other loaders",
    takes=(
        "source",
        *of("data", "train", "cache_dir", "batch_size", "eval_batch_size", "resolution", "eval_resolution", "eval_crop_ratio"),
        *of("data", "interpolation", "dct_scaling", "dtype", "subset", "order", "window_gb", "decode", "on_error"),
        *("data.batches_ahead", "data.shrink", "augment", *of("train", "seed", "epochs"), "schedule.stages"),
        *of("bench", "rounds", "seconds", "against", "work", "threads", "images", "chart"),
    ),
    run=_run,
    usual=(
        *("source.path", "source.kind", "data.train", "data.batch_size", "data.resolution"),
        *of("augment", "repeats", "auto_augment"),
        *of("bench", "rounds", "seconds", "against", "work", "threads", "images", "chart"),
    ),
)
