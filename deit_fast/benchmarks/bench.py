"""Measures images per second of the loader alone, the model alone, and both together: `deit-fast bench`."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from deit_fast.benchmarks.interleave import interleaved, spread, summary, wait_for, wait_for_rest
from deit_fast.benchmarks.result import described, setting_of, title
from deit_fast.benchmarks.step import FIRST_STEPS, synthetic_batch
from deit_fast.config import RunConfig, check_training
from deit_fast.data.load.loader import Batch
from deit_fast.plan.placement import placed
from deit_fast.train.dist import joined_world, world_size_of_environment
from deit_fast.train.trainer import Trainer

KINDS = {
    "data": "loader alone",
    "compute": "model alone, a synthetic batch",
    "cached": "model alone, cached batches",
    "both": "end to end",
}
_NUM_CACHED = 4


def bench(config: RunConfig) -> dict[str, Any]:
    """`deit-fast bench`: images per second over all ranks of each of KINDS, as docs/benchmarks.md describes them.

    The loader runs through as many epochs as needed, without stopping between measurements.
    """
    check_training(config, world_size_of_environment())
    with joined_world(config.train.device) as world:
        started = time.perf_counter()
        placed_config, placement = placed(measured_as(config), world)
        trainer = Trainer(placed_config, world)
        set_up_seconds = time.perf_counter() - started
        try:
            before, rates = before_and_rates(trainer, config.bench.steps, config.bench.rounds)
        finally:
            trainer.close()
        before = {"set_up": set_up_seconds, **before}
        result = {
            **rates_result(rates),
            "steps": config.bench.steps,
            "before_seconds": before,
            "first_steps": FIRST_STEPS,
            "global_batch_size": trainer.global_batch_size,
            "placement": placement,
            **setting_of(trainer),
            **described(trainer.config),  # with the placement that was decided
        }
        later_seconds = FIRST_STEPS * trainer.global_batch_size / result["images_per_second"]["compute"]
        is_compiled = config.train.compile != "off"
        result["compile_seconds"] = max(0.0, before["first_steps"] - later_seconds) if is_compiled else None
        if world.is_main:
            print(_table(result))
    return result


def measured_as(config: RunConfig) -> RunConfig:
    """The configuration for measuring steps: one resolution, and losses read only after a measurement, so that nothing else
    waits for the device."""
    return config.changed({"data.start_resolution": None, "schedule.stages": (), "train.log_every": config.bench.steps})


def before_and_rates(trainer: Trainer, steps: int, rounds: int) -> tuple[dict[str, float], dict[str, list[float]]]:
    """Seconds of the first_batch and of the first_steps, and images per second of each of KINDS in each round.

    A measurement takes `steps` steps; the trainer's train.log_every must be at least that number."""
    device, counter, lr = trainer.world.device, itertools.count(), trainer.lr(0, 0)

    def train_on(batch: Batch) -> None:
        trainer.step(batch, 0, next(counter), lr)

    def seconds_of(work: Callable[[], object], count: int) -> float:
        wait_for(device)
        started = time.perf_counter()
        for _ in range(count):
            work()
        trainer.step.wait()
        wait_for(device)
        return time.perf_counter() - started

    batches = _endless(trainer)
    before = {"first_batch": seconds_of(lambda: next(batches), 1)}
    synthetic = synthetic_batch(trainer.config, device, trainer.num_classes)
    cached = itertools.cycle([next(batches).copy() for _ in range(_NUM_CACHED)])
    # read after each: a trainer may be made for fewer steps between readings
    before["first_steps"] = sum(seconds_of(lambda: train_on(synthetic), 1) for _ in range(FIRST_STEPS))

    works: dict[str, Callable[[], object]] = {
        "data": lambda: next(batches),
        "compute": lambda: train_on(synthetic),
        "cached": lambda: train_on(next(cached)),
        "both": lambda: train_on(next(batches)),
    }

    def rate(kind: str) -> float:
        if kind in ("compute", "cached"):
            wait_for_rest()  # the loader fills its queues, on cores that the model may want
        trainer.world.gather(None)  # ranks begin together
        if kind in ("data", "both"):
            # what was prepared while the clock stood still is not counted: the queue, a batch that found no place in it, and
            # one more, so that the clock starts when one is finished
            for _ in range(trainer.config.data.batches_ahead + 2):
                next(batches)
        seconds = max(trainer.world.gather(seconds_of(works[kind], steps)))  # of the last rank
        return steps * trainer.global_batch_size / seconds

    return before, interleaved({kind: functools.partial(rate, kind) for kind in KINDS}, rounds)


def rates_result(rates: dict[str, list[float]]) -> dict[str, Any]:
    """Result of the rounds: medians, single values, and the ratio of end to end to its limit."""
    limits = [min(data, compute) for data, compute in zip(rates["data"], rates["compute"], strict=True)]
    return {
        "images_per_second": {kind: summary(values)["median"] for kind, values in rates.items()},
        "rounds": rates,
        "ratio": summary([both / limit for both, limit in zip(rates["both"], limits, strict=True)]),
    }


def _endless(trainer: Trainer) -> Iterator[Batch]:
    for epoch in itertools.count():
        yield from trainer.batches(epoch % trainer.config.train.epochs)


def _table(result: dict[str, Any]) -> str:
    lines = [title(result), *(f"  placement: {line}" for line in result["placement"])]
    for kind, name in KINDS.items():
        values: Sequence[float] = result["rounds"][kind]
        lines.append(f"  {name:32}{result['images_per_second'][kind]:12,.1f} images/s   ({spread(values)})")
    ratio, before = result["ratio"], result["before_seconds"]
    limit = min(("data", "compute"), key=lambda kind: result["images_per_second"][kind])
    first = f"first {result['first_steps']} steps {before['first_steps']:.1f} s"
    if result["compile_seconds"] is not None:
        first += f", of which compilation {result['compile_seconds']:.1f} s"
    lines += [
        f"  {'end to end / ' + KINDS[limit].partition(',')[0]:32}{ratio['median']:12.3f}            "
        f"({ratio['min']:.3f} to {ratio['max']:.3f})",
        f"  before: set-up {before['set_up']:.1f} s, first batch {before['first_batch']:.1f} s, {first}",
    ]
    return "\n".join(lines)
