"""The plan, the placement and the budget of a run, asked by its loop: how it begins, and when it has to end."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from deit_fast.config import RunConfig, UserError, target_top1
from deit_fast.plan import ledger
from deit_fast.plan.budget import Limit, fitted, with_schedule_of
from deit_fast.plan.outlook import Outlook
from deit_fast.plan.placement import placed, resumed
from deit_fast.plan.prediction import Prediction, expected
from deit_fast.plan.run_counts import counts_of
from deit_fast.record.clock import Clock
from deit_fast.record.progress import dollars
from deit_fast.record.run import hardware
from deit_fast.record.runs import load_run
from deit_fast.record.targets import outcome_of
from deit_fast.train.dist import World

_SPREAD = 0.05  # of the logarithm of actual over predicted seconds, of predictions from first epochs


class RunPlanning:
    """The plan, the placement and the budget of a run: a `train.planning.Planning`. Every rank has one; only rank 0 knows of
    the ledger, where a plan is found by what was asked for, before placement and budget decided on some of it."""

    def __init__(self, asked: RunConfig) -> None:
        self._asked = self._config = asked
        self.target = target_top1(asked.budget.until) if asked.budget.until else math.inf
        self.placement: list[str] = []
        self.prediction: Prediction | None = None
        self._limit: Limit
        self._clock: Clock
        self._world: World
        self._folder: Path
        self._outlook: Outlook
        self._before: dict[str, float] = {}  # seconds by kind at the end of the epoch before
        self._reached: dict[str, Any] = {}  # where the target was
        self._is_whole = True  # no epoch of it was begun by another session
        self._machine = self._key = ""

    def settle(self, world: World, clock: Clock, folder: Path, content: Mapping[str, Any] | None) -> RunConfig:
        """The configuration with its checkpoint's decisions, or with the fastest placement and the epochs that fit."""
        self._world, self._clock, self._folder = world, clock, folder
        if content is not None:
            config, self.placement = resumed(self._asked, content)
            self._config = with_schedule_of(config, content)
        else:
            config, self.placement = placed(self._asked, world)
            self._config, self.prediction = fitted(config, world, clock, folder)
        self._limit = Limit(self._config, clock)
        return self._config

    @property
    def is_spent(self) -> bool:
        return self._limit.is_spent

    def begin(self, steps_per_epoch: int, *, is_first: bool) -> list[str]:
        config, world = self._config, self._world
        self._outlook = Outlook(config, steps_per_epoch)
        self._is_whole = is_first
        if self.prediction is not None:  # of the budget: until an evaluation was seen, the end leaves time for one as predicted
            evaluations = counts_of(config, steps_per_epoch).num_evaluations
            self._limit.expect(self.prediction.seconds["evaluation"] / evaluations)
        lines = []
        if world.is_main and not is_first and self._asked.budget.until:
            self._reached = self._reached_before()
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
        self._before = self._clock.seconds()  # what was before is no part of an epoch
        return lines

    def epoch_done(self, epoch: int, is_evaluated: bool, is_whole: bool) -> list[str]:
        seconds = self._clock.seconds()
        taken = {kind: value - self._before.get(kind, 0.0) for kind, value in seconds.items()}
        self._before = seconds
        if not is_whole:
            return []
        self._outlook.epoch_done(epoch, taken, is_evaluated)
        if self._outlook.has_evaluated:
            self._limit.expect(self._outlook.evaluation_seconds)
        left = self._outlook.left(epoch + 1)
        if self.prediction is None and self._outlook.has_evaluated and self._is_whole and sum(left.values()) > 0:
            whole = {kind: value + left[kind] for kind, value in seconds.items()}
            self.prediction = expected(whole, _SPREAD, "first epochs")
        line = self._limit.overrun(sum(left.values()), self._outlook.error)
        return [line] if line else []

    def evaluated(self, epoch: int, seconds: float, top1: Sequence[float]) -> None:
        if not self._reached and any(value >= self.target for value in top1):
            self._reached = {"epochs": epoch + 1, "seconds": seconds}

    def _reached_before(self) -> dict[str, Any]:
        """Where an earlier session has reached the target, by the log; empty if none has."""
        outcome = outcome_of(load_run(self._folder), self.target)
        return {"epochs": outcome.epochs, "seconds": outcome.seconds} if outcome.state == "reached" else {}

    def result(self) -> dict[str, Any]:
        entries: dict[str, Any] = {} if self.prediction is None else {"prediction": self.prediction.as_dict()}
        if self._asked.budget.until:
            price, seconds = self._config.run.dollars_per_hour, self._reached.get("seconds")
            cost = None if price is None or seconds is None else dollars(seconds, price)
            where = {"epochs": self._reached.get("epochs"), "seconds": seconds, "dollars": cost}
            entries["target"] = {"top1": self.target, "is_reached": bool(self._reached), **where}
        return entries

    def end(self, summary: dict[str, Any], num_sessions: int) -> list[str]:
        """Adds the run to the ledger beside its folder."""
        if not self._world.is_main:
            return []
        runs = self._folder.absolute().parent
        try:
            ledger.append(
                runs,
                "run",
                run=self._folder.name,
                machine=self._machine,
                key=self._key,
                model=self._config.model.name,
                epochs=self._config.train.epochs,
                sessions=num_sessions,
                prediction=None if self.prediction is None or summary["stopped"] else self.prediction.as_dict(),
                actual=summary["seconds"],
                wall_seconds=summary["wall_seconds"],
                first_epoch_extra=self._outlook.first_epoch_extra,
                dollars_per_hour=self._config.run.dollars_per_hour,
            )
        except OSError as error:
            return [f"{runs / ledger.LEDGER}: cannot be written ({error.strerror}): no plan learns of this run"]
        return []


def described(prediction: Prediction) -> str:
    """A prediction in words."""
    hours = [value / 3600 for value in (prediction.wall_seconds, prediction.low, prediction.high)]
    return "expected to take {:.3f} hours ({:.3f} to {:.3f})".format(*hours) + f", by its {prediction.source}"
