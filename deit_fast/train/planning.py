"""What a run asks of whoever has planned it: how it begins, what an epoch says of its end, and whether its budget is spent."""

from __future__ import annotations

from collections.abc import Mapping
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
        """Whether of the budget only an evaluation and a checkpoint are left."""
        ...

    def settle(self, world: World, clock: Clock, folder: Path, content: Mapping[str, Any] | None) -> RunConfig:
        """The run's configuration, with nothing left open: as it was decided for a checkpoint's content, or now.

        Raises UserError where the budget is too small, or views cannot be made anywhere.
        """
        ...

    def begin(self, steps_per_epoch: int, *, is_first: bool) -> list[str]:
        """The first step comes next, or the next after a checkpoint; lines to say."""
        ...

    def epoch_done(self, epoch: int, is_evaluated: bool, is_whole: bool) -> list[str]:
        """An epoch (from 0) is done, is_whole: by this session alone, with evaluation and checkpoint; lines to say."""
        ...

    def end(self, summary: dict[str, Any], num_sessions: int) -> list[str]:
        """The run has come to its end with this summary, and is kept for later plans; lines to say."""
        ...

    def result(self) -> dict[str, Any]:
        """What the summary says of the prediction; nothing where there was none."""
        ...
