"""`deit-fast train`."""

from __future__ import annotations

from typing import Any

from deit_fast.commands import training
from deit_fast.commands.command import Call, Command


def _run(call: Call) -> dict[str, Any]:
    if call.config.slurm.nodes:
        from deit_fast.train.slurm import submit

        return submit(call.config, call.words[1:])
    from deit_fast.plan.training import train

    return train(call.config, ["deit-fast", *call.words])


COMMAND = Command(
    "train a classifier and record the run",
    takes=(*training.RUN, "slurm"),
    run=_run,
    usual=(*training.USUAL, "train.resume", "budget.hours", "slurm.nodes"),
    prints_result=False,
)
