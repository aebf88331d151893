"""A planned run: `deit-fast train`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deit_fast.config import RunConfig
from deit_fast.plan.planning import RunPlanning
from deit_fast.train import loop


def train(config: RunConfig, command: Sequence[str] = ()) -> dict[str, Any]:
    """`deit-fast train`: a run from its first step, or from its last checkpoint, to its end. Gives the run's summary.

    command: as the record is to show it; by default the words of this process. SIGTERM, SIGHUP and SIGUSR1 end it early, in a
    checkpoint. A run that has come to its end is left as it is. Raises UserError for whatever the user can mend, before the
    run's folder is made where that can be known; and when the loss is no longer finite.
    """
    return loop.train(config, RunPlanning(config), command)
