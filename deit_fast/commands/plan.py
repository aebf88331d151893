"""`deit-fast plan`."""

from __future__ import annotations

from typing import Any

from deit_fast.commands import training
from deit_fast.commands.command import Call, Command


def _run(call: Call) -> dict[str, Any]:
    from deit_fast.plan.plan import plan

    return plan(call.config)


COMMAND = Command(
    "predict the hours and dollars of a training run",
    takes=(*training.RUN, "plan"),
    run=_run,
    usual=(*training.USUAL, "plan.gpus", "plan.prices"),
)
