"""Takes a configuration that leaves open where views are made, gives it with the places that train fastest."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch

from deit_fast.config import RunConfig, UserError
from deit_fast.data.loader import Batch, Loader, train_loader
from deit_fast.data.placement import check_device
from deit_fast.train.dist import World
from deit_fast.train.feed import on_device
from deit_fast.train.learner import Learner

Place = Literal["cpu", "gpu", "auto"]
Places = tuple[Place, Place]  # data.decode, augment.device

PLACES: tuple[Places, ...] = (("cpu", "cpu"), ("cpu", "gpu"), ("gpu", "gpu"))
_SECONDS = 3.0
_FIRST_STEPS = 5  # compile, fill queues

Measure = Callable[[RunConfig, World], float]


def training_rate(config: RunConfig, world: World) -> float:
    """Images per second of this rank while it trains from its beton: a few seconds of steps of a model that is thrown away.

    Ranks do not exchange gradients here, but all measure at the same time, with their share of the node's cores.
    """
    ranks: dict[str, Any] = {"rank": world.rank, "world_size": world.world_size, "device": world.device}
    loader = train_loader(config.data, config.augment, seed=config.train.seed, **ranks)
    try:
        steps_per_epoch = max(1, loader.order.steps_per_epoch)
        sizes = {"num_classes": loader.beton.num_classes, "steps_per_epoch": steps_per_epoch}
        learner = Learner(config, World(0, 1, world.device), starts_anew=False, **sizes)
        batches = _endless(loader, world.device)

        def train_on(number: int) -> None:
            learner.train_on(next(batches), 0, number % steps_per_epoch)
            if learner.step.num_unread == config.train.log_every:
                learner.step.read()

        for number in range(_FIRST_STEPS):
            train_on(number)
        if learner.step.num_unread:
            learner.step.read()  # waits for the device
        num_steps, started = 0, time.perf_counter()
        while num_steps == 0 or time.perf_counter() - started < _SECONDS:
            train_on(num_steps)
            num_steps += 1
        if learner.step.num_unread:
            learner.step.read()
        return num_steps * config.data.batch_size / (time.perf_counter() - started)
    finally:
        loader.close()
        if world.device.type == "cuda":
            torch.cuda.empty_cache()


def _endless(loader: Loader, device: torch.device) -> Iterator[Batch]:
    for epoch in itertools.count():
        loader.set_epoch(epoch)
        yield from on_device(loader, device)


def with_places(config: RunConfig, places: Places) -> RunConfig:
    """The configuration with data.decode and augment.device as they are in `places`."""
    data = dataclasses.replace(config.data, decode=places[0])
    return dataclasses.replace(config, data=data, augment=dataclasses.replace(config.augment, device=places[1]))


def placed(config: RunConfig, world: World, measure: Measure = training_rate) -> tuple[RunConfig, list[str]]:
    """The configuration with no place left at auto, the same on every rank, and lines on how that came about.

    What this machine lacks is left out; of what is left, if it is more than one, each is measured, and the one that trains
    most images per second over all ranks is taken. Raises UserError if nothing is left.
    """
    asked = config.data.decode, config.augment.device
    if "auto" not in asked:
        return config, []
    here: dict[Places, str] = {}  # what each lacks
    for places in PLACES:
        if all(wanted in ("auto", place) for wanted, place in zip(asked, places, strict=True)):
            here[places] = _lack_of(with_places(config, places), world)
    everywhere = world.gather(here)
    lacks = {places: next((other[places] for other in everywhere if other[places]), "") for places in here}
    possible = [places for places, lack in lacks.items() if not lack]
    lines = [f"{_named(places)}: left out: {lack}" for places, lack in lacks.items() if lack]
    if not possible:
        raise UserError(next(iter(lacks.values()), f"data.decode={asked[0]}: wants augment.device=gpu, got {asked[1]}"))
    if len(possible) == 1:
        return with_places(config, possible[0]), [*lines, f"{_named(possible[0])}: what is left"]
    rates = {places: sum(world.gather(measure(with_places(config, places), world))) for places in possible}
    best = max(rates, key=rates.__getitem__)
    lines += [f"{_named(places)}: {rate:,.0f} images/s{', taken' * (places == best)}" for places, rate in rates.items()]
    return with_places(config, best), lines


def _named(places: Places) -> str:
    return f"data.decode={places[0]}, augment.device={places[1]}"


def _lack_of(config: RunConfig, world: World) -> str:
    try:
        check_device(config.data, config.augment, world.device)
    except UserError as error:
        return str(error)
    return ""
