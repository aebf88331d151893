"""Measures images per second of training a model from a beton, with views made in each placement, beside synthetic batches."""

from __future__ import annotations

import functools
import itertools
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import torch

from deit_fast.benchmarks.bench import measured_as
from deit_fast.benchmarks.gpu.parts import error_of
from deit_fast.benchmarks.gpu.steps import model_config, slowest_kernels
from deit_fast.benchmarks.interleave import interleaved, summary, wait_for_rest
from deit_fast.benchmarks.step import FIRST_STEPS, STEPS_PER_EPOCH, synthetic_batch
from deit_fast.config import RunConfig, UserError, check_training
from deit_fast.data.fetch.local import open_here
from deit_fast.data.load.loader import Batch, Loader, num_threads, train_loader
from deit_fast.data.load.placement import check_device
from deit_fast.plan.placement import PLACEMENTS, with_placement
from deit_fast.train.dist import World
from deit_fast.train.inputs import fixed_inputs
from deit_fast.train.learner import Learner
from deit_fast.train.step import on_device

SYNTHETIC = "synthetic"
FEW_THREADS = 4  # with which decoding on the GPU is to keep up with synthetic batches
_MOST_ROUNDS = 3
_REST_SECONDS = 1.0
_PROFILED_STEPS = 3


def run_rates(config: RunConfig, world: World, name: str) -> dict[str, Any]:
    """images_per_second of training the model of that name on a synthetic batch, and from data.train by each of `roads`, in
    turns; of each road the `shares` of synthetic, in each round, the rate of its `loaders` alone, and `threads`.

    Also what the machine `lacks` for other roads and the errors of those that `failed`, the seconds of the first steps, which
    compile, and the device's `slowest` kernels of a synthetic step. Raises UserError if there is no beton.
    """
    config = measured_as(model_config(config, name))
    if not config.data.train:
        raise UserError("data.train is not set: no beton to train from")
    check_training(config.changed({"data.val": config.data.val or config.data.train}), 1)
    if config.train.compile != "off":
        torch.compiler.reset()  # after some models PyTorch would leave the next one uncompiled
    configs, lacks = roads(config, world)
    steps, failed = config.bench.steps, {}
    with _Training(config, world) as training:
        first_seconds = training.seconds_of(SYNTHETIC, FIRST_STEPS)
        for road, one in configs.items():
            if line := error_of(functools.partial(training.open, road, one)):
                failed[road] = line
        measures = {kind: functools.partial(training.rate, kind, steps) for kind in (SYNTHETIC, *training.roads)}
        rounds = interleaved(measures, min(config.bench.rounds, _MOST_ROUNDS))
        loading = {road: training.loading_rate(road, steps) for road in training.roads}
        slowest: list[dict[str, Any]] = []
        failed_profile = error_of(lambda: slowest.extend(training.slowest()))
    shares = {road: [a / b for a, b in zip(rounds[road], rounds[SYNTHETIC], strict=True)] for road in loading}
    return {
        "images_per_second": {kind: statistics.median(values) for kind, values in rounds.items()},
        "rounds": rounds,
        "shares": {road: summary(values) for road, values in shares.items()},
        "loaders": loading,
        "threads": {road: num_threads(one.data, 1) for road, one in configs.items()},
        "lacks": lacks,
        "failed_roads": failed,
        "failed_profile": failed_profile,
        "first_steps_seconds": first_seconds,
        "slowest": slowest,
    }


def roads(config: RunConfig, world: World) -> tuple[dict[str, RunConfig], dict[str, str]]:
    """The configurations of the placements that this machine has, by name, and what it lacks for others.

    Where all is on the GPU, with FEW_THREADS as well.
    """
    configs: dict[str, RunConfig] = {}
    lacks: dict[str, str] = {}
    for placement in PLACEMENTS:
        one, name = with_placement(config, placement), f"decode {placement[0]}, augment {placement[1]}"
        try:
            check_device(one.data, one.augment, world.device)
        except UserError as error:
            lacks[name] = str(error)
            continue
        configs[name] = one
        if placement[0] == "gpu" and num_threads(one.data, 1) > FEW_THREADS:
            configs[f"{name}, {FEW_THREADS} threads"] = one.changed({"data.num_workers": FEW_THREADS})
    return configs, lacks


class _Training(ExitStack):
    """One learner that trains on batches of noise, or of each of several loaders; closes these at the end of its block."""

    def __init__(self, config: RunConfig, world: World) -> None:
        super().__init__()
        self._config, self._world = config, world
        self._batches: dict[str, Iterator[Batch]] = {}
        self._place = itertools.count()
        num_classes = open_here(config.data, "train").num_classes
        self._learner = Learner(config, world, num_classes=num_classes, steps_per_epoch=STEPS_PER_EPOCH)
        self._synthetic = synthetic_batch(config, world.device, num_classes)

    @property
    def roads(self) -> list[str]:
        """Those that have been opened."""
        return list(self._batches)

    def open(self, road: str, config: RunConfig) -> None:
        """Makes a loader by its configuration, and trains a few steps with it; raises what that raises."""
        how: dict[str, Any] = {"seed": config.view_seed, "rank": self._world.rank, "world_size": self._world.world_size}
        loader = train_loader(config.data, config.augment, **how, device=self._world.device)
        self.enter_context(closing(loader))
        self._batches[road] = self._endless(loader)
        try:
            self.seconds_of(road, FIRST_STEPS)
        except BaseException:
            del self._batches[road]
            raise

    def _endless(self, loader: Loader) -> Iterator[Batch]:
        train, device = self._config.train, self._world.device
        inputs = fixed_inputs(train, device)
        for epoch in itertools.count():
            loader.set_epoch(epoch)
            yield from on_device(loader, device, channels_last=train.channels_last, inputs=inputs)

    def _next(self, kind: str) -> Batch:
        return self._synthetic if kind == SYNTHETIC else next(self._batches[kind])

    def seconds_of(self, kind: str, count: int) -> float:
        """Of `count` steps, until the device has done them."""
        started = time.perf_counter()
        for _ in range(count):
            self._learner.train_on(self._next(kind), 0, next(self._place) % STEPS_PER_EPOCH)
            if self._learner.step.num_unread == self._config.train.log_every:
                self._learner.step.read()
        self._learner.step.wait()
        return time.perf_counter() - started

    def _drain(self, road: str) -> None:
        """Takes what was prepared while the clock stood still: it is not counted."""
        wait_for_rest(_REST_SECONDS)  # other loaders fill their queues
        for _ in range(self._config.data.batches_ahead + 2):
            next(self._batches[road])

    def rate(self, kind: str, steps: int) -> float:
        """Images per second of training."""
        if kind == SYNTHETIC:
            wait_for_rest(_REST_SECONDS)
        else:
            self._drain(kind)
        return steps * self._config.data.batch_size / self.seconds_of(kind, steps)

    def loading_rate(self, road: str, steps: int) -> float:
        """Images per second of a loader, whose batches are dropped."""
        self._drain(road)
        started = time.perf_counter()
        for _ in range(steps):
            next(self._batches[road])
        if self._world.device.type == "cuda":
            torch.cuda.synchronize(self._world.device)
        return steps * self._config.data.batch_size / (time.perf_counter() - started)

    def slowest(self) -> list[dict[str, Any]]:
        """The kernels of synthetic steps that take most of the device's time."""
        return slowest_kernels(lambda: self.seconds_of(SYNTHETIC, _PROFILED_STEPS), self._world.device)
