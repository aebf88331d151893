"""Trains a planned run: `deit-fast train`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deit_fast.config import RunConfig
from deit_fast.plan.planning import RunPlanning
from deit_fast.train import loop


def train(config: RunConfig, command: Sequence[str] = ()) -> dict[str, Any]:
    """`deit-fast train`: trains a run from its first step, or its last checkpoint, to its end. Gives the run's summary.

    command: for the record; by default this process's. SIGTERM, SIGHUP and SIGUSR1 end the run early, with a checkpoint. A
    finished run is left as it is. Raises UserError for errors that the user can mend, if possible before the run's folder is
    made, and when the loss is no longer finite.
    """
    return loop.train(config, RunPlanning(config), command)
