"""`deit-fast bench eval`."""

from __future__ import annotations

from typing import Any

from deit_fast.commands.command import Call, Command, of


def _run(call: Call) -> dict[str, Any]:
    from deit_fast.benchmarks.eval import bench_eval

    return bench_eval(call.config)


KIND = Command(
    "images per second of inference, by model",
    takes=(
        *of("bench", "rounds", "seconds", "models", "batch_sizes", "precisions", "resolution", "limit_seconds"),
        *of("model", "name", "options", "dropout", "patch_dropout", "drop_path", "drop_path_rates", "drop_path_kind"),
        *of("model", "attention_dtype", "blurpool"),
        *of("train", "device", "channels_last", "compile"),
    ),
    run=_run,
    usual=(
        *of("bench", "rounds", "seconds", "models", "batch_sizes", "precisions", "resolution", "limit_seconds"),
        *of("model", "name", "options"),
        *of("train", "device", "channels_last", "compile"),
    ),
)
