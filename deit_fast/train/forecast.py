"""Takes a run's plan and budget, and its epochs as they are done, gives when it has to end, and what became of the plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deit_fast.config import RunConfig, UserError
from deit_fast.record import ledger
from deit_fast.record.clock import Clock
from deit_fast.record.prediction import Prediction, expected
from deit_fast.record.run import hardware
from deit_fast.train.budget import Limit
from deit_fast.train.dist import World
from deit_fast.train.outlook import Outlook
from deit_fast.train.shape import shape_of

_SPREAD = 0.05  # of the logarithm of actual over predicted seconds, of predictions from first epochs


class Forecast:
    """What is expected of a run. Every rank has one; only rank 0 knows of the ledger.

    asked: the configuration before places and budget decided on some of it, by which its plan is found. prediction: what the
    budget was fitted by, if there is one.
    """

    def __init__(self, asked: RunConfig, folder: Path, prediction: Prediction | None) -> None:
        self._asked, self._folder = asked, folder
        self.prediction = prediction
        self.limit: Limit
        self._clock: Clock
        self._world: World
        self._outlook: Outlook
        self._before: dict[str, float] = {}  # seconds by kind at the end of the epoch before
        self._is_whole = True  # no epoch of it was begun by another session
        self._machine = self._key = ""

    def begin(self, config: RunConfig, steps_per_epoch: int, world: World, clock: Clock, *, is_first: bool) -> list[str]:
        """The run begins with this configuration, or goes on; lines to say."""
        self._clock, self._world = clock, world
        self.limit = Limit(config, clock)
        self._outlook = Outlook(config, steps_per_epoch)
        self._is_whole = is_first
        if self.prediction is not None:  # of the budget: until an evaluation was seen, the end leaves time for one as predicted
            evaluations = shape_of(config, steps_per_epoch).num_evaluations
            self.limit.expect(self.prediction.seconds["evaluation"] / evaluations)
        lines = []
        if world.is_main:
            self._machine, self._key = ledger.machine_of(hardware()), ledger.key_of(self._asked, world.world_size)
            if self.prediction is None and is_first:
                try:
                    entries = ledger.read(self._folder.absolute().parent)
                    self.prediction = ledger.planned(entries, self._key, self._machine)
                except UserError as error:
                    lines.append(f"no plan is read: {error}")
            if self.prediction is not None:
                lines.append(f"{described(self.prediction)}, for {config.train.epochs} epochs")
        return lines

    def train_from(self) -> None:
        """The first step comes next: what was before is no part of an epoch."""
        self._before = self._clock.seconds()

    def epoch_done(self, epoch: int, is_evaluated: bool, is_whole: bool) -> list[str]:
        """An epoch (from 0) is done, is_whole: by this session alone, with evaluation and checkpoint; lines to say."""
        seconds = self._clock.seconds()
        taken = {kind: value - self._before.get(kind, 0.0) for kind, value in seconds.items()}
        self._before = seconds
        if not is_whole:
            return []
        self._outlook.epoch_done(epoch, taken, is_evaluated)
        if self._outlook.has_evaluated:
            self.limit.expect(self._outlook.evaluation_seconds)
        left = self._outlook.left(epoch + 1)
        if self.prediction is None and self._outlook.has_evaluated and self._is_whole and sum(left.values()) > 0:
            whole = {kind: value + left[kind] for kind, value in seconds.items()}
            self.prediction = expected(whole, _SPREAD, "first epochs")
        line = self.limit.overrun(sum(left.values()), self._outlook.error)
        return [line] if line else []

    def result(self) -> dict[str, Any]:
        """What a summary says of it: `prediction`, or nothing where there was none."""
        return {} if self.prediction is None else {"prediction": self.prediction.as_dict()}

    def keep(self, summary: dict[str, Any], sessions: int, config: RunConfig) -> str:
        """Adds the run to the ledger beside its folder; a line to say where that cannot be written."""
        if not self._world.is_main:
            return ""
        runs = self._folder.absolute().parent
        try:
            ledger.append(
                runs,
                "run",
                run=self._folder.name,
                machine=self._machine,
                key=self._key,
                model=config.model.name,
                epochs=config.train.epochs,
                sessions=sessions,
                prediction=None if self.prediction is None or summary["stopped"] else self.prediction.as_dict(),
                actual=summary["seconds"],
                wall_seconds=summary["wall_seconds"],
                first_epoch_extra=self._outlook.first_epoch_extra,
                dollars_per_hour=config.run.dollars_per_hour,
            )
        except OSError as error:
            return f"{runs / ledger.LEDGER}: cannot be written ({error.strerror}): no plan learns of this run"
        return ""


def described(prediction: Prediction) -> str:
    """A prediction in words."""
    hours = [value / 3600 for value in (prediction.wall_seconds, prediction.low, prediction.high)]
    return "expected to take {:.3f} hours ({:.3f} to {:.3f})".format(*hours) + f", by its {prediction.source}"
