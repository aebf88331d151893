"""What a run asks of its planning: how it begins, what an epoch predicts, and whether its budget is spent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from deit_fast.config import RunConfig
from deit_fast.record.clock import Clock
from deit_fast.train.dist import World


class Planning(Protocol):
    """The plan, the placement and the budget of one run, on one rank. `settle` comes first.

    target: top-1 in percent at which the run may end; above 100 where there is none.
    """

    target: float

    @property
    def placement(self) -> list[str]:
        """Lines on where images are decoded and augmented, if that was left open."""
        ...

    @property
    def is_spent(self) -> bool:
        """Whether the rest of the budget suffices only for an evaluation and a checkpoint."""
        ...

    def settle(self, world: World, clock: Clock, folder: Path, content: Mapping[str, Any] | None) -> RunConfig:
        """The run's configuration with all automatic options decided: as in a checkpoint's content, or now.

        Raises UserError if the budget is too small, or views cannot be made anywhere.
        """
        ...

    def begin(self, steps_per_epoch: int, *, is_first: bool) -> list[str]:
        """Called before the first step, or the first after a checkpoint. Gives lines to print."""
        ...

    def epoch_done(self, epoch: int, is_evaluated: bool, is_whole: bool) -> list[str]:
        """Called after an epoch (from 0). is_whole: this session did all of it, with evaluation and checkpoint. Gives lines."""
        ...

    def evaluated(self, epoch: int, seconds: float, top1: Sequence[float]) -> None:
        """Called after an evaluation in an epoch (from 0): the run's seconds so far, and top-1 in percent of each weights."""
        ...

    def end(self, summary: dict[str, Any], num_sessions: int) -> list[str]:
        """Called at the end of the run with its summary, which is kept for later plans. Gives lines to print."""
        ...

    def result(self) -> dict[str, Any]:
        """Entries of the summary: the prediction, if there was one; with a target, whether and when it was reached."""
        ...
