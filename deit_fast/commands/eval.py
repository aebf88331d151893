"""`deit-fast eval`."""

from __future__ import annotations

from typing import Any

from deit_fast.commands.command import Call, Command, of


def _run(call: Call) -> dict[str, Any]:
    from deit_fast.train.evaluate import evaluate_checkpoint

    return evaluate_checkpoint(call.config)


COMMAND = Command(
    "evaluate a checkpoint",
    takes=(
        "eval",
        *of("model", "name", "options", "blurpool"),
        *of(
            "data",
            "val",
            "cache_dir",
            "eval_batch_size",
            "eval_resolution",
            "eval_crop_ratio",
            "decode",
            "num_workers",
            "batches_ahead",
        ),
        *of("train", "device", "amp", "channels_last", "attention"),
    ),
    run=_run,
    usual=(
        *of("eval", "checkpoint", "weights", "flip", "heads"),
        *of("model", "name", "options"),
        *of("data", "val", "eval_resolution", "eval_crop_ratio", "decode", "num_workers"),
        *of("train", "device", "amp"),
    ),
)
