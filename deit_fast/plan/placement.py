"""Finds the fastest placement, on CPU or GPU, of decoding and augmentation where the configuration says auto."""

from __future__ import annotations

import itertools
import math
import operator
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from deit_fast.config import RunConfig, TrainConfig, UserError
from deit_fast.data.load.loader import Batch, Loader, train_loader
from deit_fast.data.load.placement import check_device
from deit_fast.train.dist import World
from deit_fast.train.inputs import fixed_inputs
from deit_fast.train.learner import Learner
from deit_fast.train.step import on_device
from deit_fast.train.stored_labels import any_labels

Place = Literal["cpu", "gpu", "auto"]
Placement = tuple[Place, Place]  # data.decode, augment.device

PLACEMENTS: tuple[Placement, ...] = (("cpu", "cpu"), ("cpu", "gpu"), ("gpu", "gpu"))
_SECONDS = 3.0
_FIRST_STEPS = 5  # compile, fill queues

Measure = Callable[[RunConfig, World], float]


def training_rate(config: RunConfig, world: World) -> float:
    """Images per second of this rank while it trains a discarded model from its beton for a few seconds.

    Ranks do not exchange gradients here, but all measure at the same time, each with its share of the node's cores.
    """
    ranks: dict[str, Any] = {"rank": world.rank, "world_size": world.world_size, "device": world.device}
    loader = train_loader(config.data, config.augment, seed=config.view_seed, **ranks)
    try:
        steps_per_epoch = max(1, loader.order.steps_per_epoch)
        num_classes = loader.beton.num_classes
        learner = Learner(
            config,
            World(0, 1, world.device),
            num_classes=num_classes,
            steps_per_epoch=steps_per_epoch,
            starts_anew=False,
            labels=any_labels(config, num_classes) if config.distil.labels else None,
        )
        batches = _endless(loader, world.device, config.train)

        def train_on(number: int) -> None:
            learner.train_on(next(batches), 0, number % steps_per_epoch)
            if learner.step.num_unread == config.train.log_every:
                learner.step.read()

        for number in range(_FIRST_STEPS):
            train_on(number)
        learner.step.wait()
        num_steps, started = 0, time.perf_counter()
        while num_steps == 0 or time.perf_counter() - started < _SECONDS:
            train_on(num_steps)
            num_steps += 1
        learner.step.wait()
        return num_steps * config.data.batch_size / (time.perf_counter() - started)
    finally:
        loader.close()
        if world.device.type == "cuda":
            torch.cuda.empty_cache()


def _endless(loader: Loader, device: torch.device, train: TrainConfig) -> Iterator[Batch]:
    inputs = fixed_inputs(train, device)
    for epoch in itertools.count():
        loader.set_epoch(epoch)
        yield from on_device(loader, device, channels_last=train.channels_last, inputs=inputs)


def with_placement(config: RunConfig, placement: Placement) -> RunConfig:
    """The configuration with data.decode and augment.device of a placement."""
    return config.changed({"data.decode": placement[0], "augment.device": placement[1]})


def resumed(config: RunConfig, content: Mapping[str, Any]) -> tuple[RunConfig, list[str]]:
    """The configuration with a checkpoint's placement instead of auto, and a line if the run changes its placement, which it
    may: the views stay the same. Where the option asked for does not go with the other one, that one changes too.

    content: of the checkpoint.
    """
    had = content["config"]["data"].get("decode", "cpu"), content["config"]["augment"].get("device", "cpu")
    placement = max(_allowed(config), key=lambda placement: sum(map(operator.eq, placement, had)))
    return with_placement(config, placement), [] if placement == had else [f"{named(placement)}; before: {named(had)}"]


@dataclass(frozen=True)
class Measured:
    """The placements that a configuration allows.

    rates: of the possible ones, images per second over all ranks; nan if there is only one, which is not measured. lacks: of
    the others, what this machine lacks for them.
    """

    rates: dict[Placement, float]
    lacks: dict[Placement, str]

    @property
    def best(self) -> Placement:
        """Raises UserError if no placement is possible."""
        if not self.rates:
            raise UserError(next(iter(self.lacks.values())))
        return max(self.rates, key=self.rates.__getitem__)

    def lines(self) -> list[str]:
        """One line for each placement: left out, used, or measured and not used."""
        said = [f"{named(placement)}: left out: {lack}" for placement, lack in self.lacks.items()]
        if len(self.rates) == 1:
            return [*said, f"{named(self.best)}: what is left"]
        taken = {self.best: ", taken"}
        return said + [
            f"{named(placement)}: {rate:,.0f} images/s{taken.get(placement, '')}" for placement, rate in self.rates.items()
        ]


def measured(config: RunConfig, world: World, measure: Measure = training_rate) -> Measured:
    """Measures each placement that the configuration allows and every rank's machine has, if there is more than one."""
    here = {placement: _lack_of(with_placement(config, placement), world) for placement in _allowed(config)}
    everywhere = world.gather(here)
    lacks = {one: next((other[one] for other in everywhere if other[one]), "") for one in here}
    possible = [placement for placement, lack in lacks.items() if not lack]
    rates = dict.fromkeys(possible, math.nan)
    if len(possible) > 1:
        rates = {one: sum(world.gather(measure(with_placement(config, one), world))) for one in possible}
    return Measured(rates, {placement: lack for placement, lack in lacks.items() if lack})


def placed(config: RunConfig, world: World, measure: Measure = training_rate) -> tuple[RunConfig, list[str]]:
    """The configuration with each option at auto decided, the same on every rank, and lines that say why.

    Placements that this machine lacks are left out. Of the others, the one that trains most images per second over all ranks is
    used. Raises UserError if none is left.
    """
    if "auto" not in (config.data.decode, config.augment.device):
        return config, []
    found = measured(config, world, measure)
    return with_placement(config, found.best), found.lines()


def named(placement: Placement) -> str:
    """The placement as options."""
    return f"data.decode={placement[0]}, augment.device={placement[1]}"


def _allowed(config: RunConfig) -> list[Placement]:
    """The placements that a configuration allows. Raises UserError if there is none."""
    asked = config.data.decode, config.augment.device
    allowed = [one for one in PLACEMENTS if all(map(lambda wanted, place: wanted in ("auto", place), asked, one))]
    if not allowed:
        raise UserError(f"data.decode={asked[0]}: wants augment.device=gpu, got {asked[1]}")
    return allowed


def _lack_of(config: RunConfig, world: World) -> str:
    try:
        check_device(config.data, config.augment, world.device)
    except UserError as error:
        return str(error)
    return ""
