"""Takes the configuration of a run, gives its throughput: data alone, compute alone, and both together."""

from __future__ import annotations

import dataclasses
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from deit_fast.config import RunConfig, check_training
from deit_fast.data.loader import Batch
from deit_fast.record.run import hardware, versions
from deit_fast.train import optim
from deit_fast.train.dist import joined_world, world_size_of_environment
from deit_fast.train.trainer import Trainer


def bench(config: RunConfig) -> dict[str, Any]:
    """`deit-fast bench`: images per second over all ranks, each figure the median of bench.rounds interleaved measurements.

    data: batches taken from the loader and thrown away. compute: training steps on one batch that lies on the device. both:
    training steps on batches from the loader. One round of each goes before, uncounted. The loader runs through as many
    epochs as that takes, without stopping between measurements of data and of both.
    """
    check_training(config, world_size_of_environment())
    # the device is waited for at the end of a measurement alone
    config = dataclasses.replace(config, train=dataclasses.replace(config.train, log_every=config.bench.steps))
    with joined_world(config.train.device) as world:
        trainer = Trainer(config, world)
        try:
            rates = measure_rates(trainer, config.bench.steps, config.bench.rounds)
        finally:
            trainer.close()
        if world.is_main:
            for line in trainer.placement:
                print(f"placement: {line}")
            for kind, values in rates.items():
                spread = f"{min(values):.0f} to {max(values):.0f}"
                print(f"{kind:8} {statistics.median(values):10.1f} images/s   ({spread}, {len(values)} rounds)")
    return {
        "images_per_second": {kind: statistics.median(values) for kind, values in rates.items()},
        "rounds": rates,
        "steps": config.bench.steps,
        "global_batch_size": trainer.global_batch_size,
        "config": trainer.config.as_dict(),  # with the places that were decided
        "hardware": hardware(),
        "versions": versions(),
    }


def measure_rates(trainer: Trainer, steps: int, rounds: int) -> dict[str, list[float]]:
    """Images per second of data, compute and both in each round; one of each goes before."""
    batches = _endless(trainer)
    first = next(batches)
    # a copy: the memory of a batch is used again for a later one
    kept = Batch(first.images.clone(memory_format=torch.preserve_format), first.targets.clone(), first.samples, first.views)
    counter = itertools.count()

    def train_on(batch: Batch) -> None:
        trainer.step(batch.images, batch.targets, 0, next(counter))

    def take_data() -> None:
        for _ in range(steps):
            next(batches)

    def compute() -> None:
        for _ in range(steps):
            train_on(kept)
        trainer.step.read()

    def do_both() -> None:
        for _ in range(steps):
            train_on(next(batches))
        trainer.step.read()

    kinds: dict[str, Callable[[], None]] = {"data": take_data, "compute": compute, "both": do_both}
    optim.set_lr(trainer.optimizer, trainer.lr(0, 0))
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    for round_number in range(rounds + 1):
        for kind, work in kinds.items():
            if kind != "compute":
                # batches that were prepared while the clock stood still are not counted
                for _ in range(trainer.config.data.batches_ahead):
                    next(batches)
            started = time.perf_counter()
            work()
            seconds = time.perf_counter() - started
            if round_number > 0:
                rates[kind].append(steps * trainer.global_batch_size / seconds)
    return rates


def _endless(trainer: Trainer) -> Iterator[Batch]:
    for epoch in itertools.count():
        yield from trainer.batches(epoch % trainer.config.train.epochs)
