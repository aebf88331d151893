"""`deit-fast bench train`."""

from __future__ import annotations

from typing import Any

from deit_fast.commands import training
from deit_fast.commands.command import Call, Command, of


def _run(call: Call) -> dict[str, Any]:
    from deit_fast.benchmarks.bench import bench

    return bench(call.config)


KIND = Command(
    "images per second of the loader alone, of training steps alone, and of both together",
    takes=("data", "augment", *training.STEP, "train.device", *of("bench", "steps", "rounds")),
    run=_run,
    usual=(
        *of("bench", "steps", "rounds"),
        *of("data", "train", "val", "batch_size", "resolution", "num_workers"),
        *("model.name", "distil.kind"),
        *of("train", "device", "amp", "compile"),
    ),
)
