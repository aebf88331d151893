"""`deit-fast bench gpu`."""

from __future__ import annotations

from typing import Any

from deit_fast.commands import training
from deit_fast.commands.command import Call, Command, of


def _run(call: Call) -> dict[str, Any]:
    from deit_fast.benchmarks.gpu.bench import bench_gpu

    return bench_gpu(call.config)


KIND = Command(
    "the GPU's peak rates, and how near our kernels and training come to them",
    takes=("data", "augment", *training.STEP, "train.log_every", *of("bench", "steps", "rounds", "chart")),
    run=_run,
    usual=(
        *of("bench", "steps", "rounds", "chart"),
        *of("data", "train", "val", "batch_size", "resolution", "decode", "num_workers"),
        *("augment.device", "model.name", "train.amp", "train.compile"),
    ),
)
