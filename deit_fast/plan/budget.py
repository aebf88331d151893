"""Fits the epochs and the schedule of a run to a budget of hours or dollars, and says when it has to end."""

from __future__ import annotations

import bisect
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from deit_fast.config import RunConfig, UserError, check_training
from deit_fast.plan.ledger import SCATTER
from deit_fast.plan.predict import predicted_seconds
from deit_fast.plan.prediction import Prediction, expected
from deit_fast.plan.probe import probe
from deit_fast.plan.run_counts import counts_of
from deit_fast.record.clock import Clock
from deit_fast.record.recipes import FITTED
from deit_fast.train.dist import World
from deit_fast.train.trainer import Trainer

_SHARE = 0.94  # of what a budget leaves that a run is fitted to: what it takes scatters
_MEASURING = 0.1  # of a budget that goes into measuring, at most
_MARGIN = 1.03  # of the smallest budget that works, over what one measurement says
_MOST_EPOCHS = 65535
_RESERVE = 1.5  # seconds, beside an evaluation: a checkpoint, and the end of the process


def limit_seconds(config: RunConfig) -> float:
    """Wall-clock seconds that the budget leaves a run, in all its sessions; infinite without one."""
    budget = config.budget
    limit = math.inf if budget.hours is None else 3600 * budget.hours
    return limit if budget.dollars is None else min(limit, 3600 * budget.dollars / price_of(config))


def price_of(config: RunConfig) -> float:
    """Dollars per hour of a run whose budget is in dollars, which needs a price."""
    assert config.run.dollars_per_hour is not None
    return config.run.dollars_per_hour


def stretched(config: RunConfig, epochs: int) -> RunConfig:
    """The configuration with another number of epochs, and its whole schedule scaled in proportion."""
    factor, schedule = epochs / config.train.epochs, config.schedule
    warmup, decay = schedule.warmup_epochs * factor, schedule.decay_epochs * factor
    return config.changed(dict(zip(FITTED, (epochs, warmup, decay), strict=True)))


def with_schedule_of(config: RunConfig, content: Mapping[str, Any]) -> RunConfig:
    """The configuration with the epochs and the schedule of a checkpoint, if a budget decided on them."""
    if math.isinf(limit_seconds(config)):
        return config
    sections = content["config"]
    return config.changed({key: sections[section][name] for key in FITTED for section, name in [key.split(".")]})


def fitted(config: RunConfig, world: World, clock: Clock, folder: Path) -> tuple[RunConfig, Prediction | None]:
    """The configuration with as many epochs as fit into the budget, and the prediction; unchanged without a budget.

    Measures a trainer first and discards it. Raises UserError, with the smallest budget that works, if not even one epoch fits.
    """
    limit = limit_seconds(config)
    if math.isinf(limit):
        return config, None
    before = clock.wall_seconds
    trainer = Trainer(config, world)
    created = clock.wall_seconds - before
    try:
        probes = probe(trainer, folder, _measuring_seconds(config, limit))
        steps_per_epoch = trainer.steps_per_epoch
    finally:
        trainer.close()
    del trainer
    if world.device.type == "cuda":
        torch.cuda.empty_cache()
    setup = world.gather(clock.wall_seconds + created)[0]

    def seconds_of(epochs: int) -> dict[str, float]:
        return predicted_seconds(counts_of(stretched(config, epochs), steps_per_epoch), probes, setup)[0]

    def seconds_after_setup(epochs: int) -> float:
        return sum(seconds_of(epochs).values()) - setup

    most = _MOST_EPOCHS if config.budget.longer else config.train.epochs
    # the largest number of epochs that fits; 0: not even one
    found = bisect.bisect_right(range(1, most + 1), _SHARE * (limit - setup), key=seconds_after_setup)
    # each rank has measured for itself
    epochs, seconds = world.gather((found, seconds_of(max(found, 1))))[0]
    if epochs == 0:
        raise UserError(_too_small(config, _least(config, limit, setup + (sum(seconds.values()) - setup) / _SHARE)))
    config = stretched(config, epochs)
    check_training(config, world.world_size)
    prediction = expected(seconds, SCATTER, "budget")
    return config, dataclasses.replace(prediction, high=min(prediction.high, limit))


def _measuring_seconds(config: RunConfig, limit: float) -> float:
    return min(config.budget.seconds, _MEASURING * limit)


def _least(config: RunConfig, limit: float, seconds: float) -> float:
    """Smallest budget that fits a run of `seconds`, allowing for its longer measurement and for what that scatters."""
    others = seconds - _measuring_seconds(config, limit)
    enough = others / (1 - _MEASURING)
    return _MARGIN * (others + _measuring_seconds(config, enough))


def _too_small(config: RunConfig, seconds: float) -> str:
    given, hours = config.budget, seconds / 3600
    if given.dollars is not None and (given.hours is None or limit_seconds(config) < 3600 * given.hours):
        least = math.ceil(100 * hours * price_of(config)) / 100
        return f"budget.dollars={given.dollars:g}: one epoch and an evaluation do not fit; want at least {least:.2f}"
    least = math.ceil(1e4 * hours) / 1e4
    return f"budget.hours={given.hours:g}: one epoch and an evaluation do not fit; want at least {least:.4f}"


class Limit:
    """When a run has to end, and whether it will end in time."""

    def __init__(self, config: RunConfig, clock: Clock) -> None:
        self._clock = clock
        self._seconds = limit_seconds(config)
        self._reserve = _RESERVE
        self._has_warned = False

    @property
    def is_spent(self) -> bool:
        """Whether only an evaluation and a checkpoint still fit."""
        return not math.isinf(self._seconds) and self._clock.run_seconds + self._reserve > self._seconds

    def expect(self, evaluation_seconds: float) -> None:
        """Notes how long an evaluation takes, so that the end begins that much earlier."""
        self._reserve = _RESERVE + evaluation_seconds

    def overrun(self, seconds_left: float, error: float) -> str:
        """A line, given once, that the run will clearly not end in time; empty otherwise.

        seconds_left: expected. error: their standard error, as a fraction of them."""
        expected = self._clock.run_seconds + seconds_left
        at_least = self._clock.run_seconds + (1 - 2 * error) * seconds_left
        if self._has_warned or math.isinf(self._seconds) or at_least <= self._seconds:
            return ""
        self._has_warned = True
        return (
            f"about {expected / 3600:.3f} hours are needed, and the budget is {self._seconds / 3600:.3f}: the run will end "
            "before its schedule does, in an evaluated checkpoint"
        )
