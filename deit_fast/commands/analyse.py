"""`deit-fast analyse`."""

from __future__ import annotations

from typing import Any

from deit_fast.commands.command import Call, Command, of


def _run(call: Call) -> dict[str, Any]:
    from deit_fast.looking.analysis import analyse

    return analyse(call.config)


COMMAND = Command(
    "show what a trained model has learned, as a page",
    takes=(
        "analyse",
        *of("eval", "weights", "heads", "fusion"),
        *of("model", "name", "options", "blurpool"),
        *of("distil", "teacher", "teacher_weights", "teacher_options"),
        *of("data", "val", "cache_dir", "eval_batch_size", "eval_resolution", "eval_crop_ratio", "num_workers"),
        *of("train", "device", "amp", "channels_last", "attention"),
    ),
    run=_run,
    usual=(
        *of("analyse", "run", "html", "images", "pictures"),
        *of("eval", "weights", "heads"),
        *of("model", "name", "options"),
        *of("distil", "teacher", "teacher_weights"),
        *of("data", "val", "eval_resolution"),
        "train.device",
    ),
    positional="analyse.run",
    prints_result=False,
)
