"""`deit-fast bench fidelity`."""

from __future__ import annotations

from typing import Any

from deit_fast.commands.command import Call, Command, of


def _run(call: Call) -> dict[str, Any]:
    from deit_fast.benchmarks.fidelity.bench import bench_fidelity

    return bench_fidelity(call.config)


KIND = Command(
    "how far views differ from Pillow's and timm's",
    takes=("source", "train.seed", *of("bench", "images", "markdown")),
    run=_run,
    usual=(*of("source", "path", "kind", "split", "subset"), "train.seed", *of("bench", "images", "markdown")),
)
