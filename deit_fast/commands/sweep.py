"""`deit-fast sweep`."""

from __future__ import annotations

from typing import Any

from deit_fast.commands import training
from deit_fast.commands.command import Call, Command, of


def _run(call: Call) -> dict[str, Any]:
    from deit_fast.sweep import sweep

    return sweep(call.config, call.words[1:], call.given)


COMMAND = Command(
    "train at every point of a grid, list or random sample of options",
    takes=(*training.RUN, "slurm", "sweep"),
    run=_run,
    usual=(
        *of("sweep", "file", "dir", "dry_run", "retry", "at_once", "where", "hours", "dollars"),
        *("data.train", "data.val", "train.epochs", "run.dollars_per_hour"),
    ),
    positional="sweep.file",
    short={"dry-run": "sweep.dry_run"},
    prints_result=False,
)
