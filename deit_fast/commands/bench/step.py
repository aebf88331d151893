"""`deit-fast bench step`."""

from __future__ import annotations

from typing import Any

from deit_fast.commands import training
from deit_fast.commands.command import Call, Command, of


def _run(call: Call) -> dict[str, Any]:
    from deit_fast.benchmarks.step import bench_step

    return bench_step(call.config)


KIND = Command(
    "time of our training step over that of a bare PyTorch loop, on synthetic batches",
    takes=(
        # the other resolutions of a run too, since the model must be able to take them; the teacher has its own mean and std
        *of("data", "batch_size", "resolution", "start_resolution", "ramp", "eval_resolution", "dtype"),
        *of("augment", "label_smoothing", "mean", "std"),
        *training.STEP,
        *of("train", "device", "log_every"),
        *of("bench", "steps", "rounds", "choices"),
    ),
    run=_run,
    usual=(
        *of("bench", "steps", "rounds", "choices"),
        *of("data", "batch_size", "resolution"),
        *("model.name", "model.options", "distil.kind", "optim.name", "optim.options"),
        *of("train", "device", "amp", "compile", "accumulate"),
    ),
)
