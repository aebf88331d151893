"""Measures views per second of each stage of schedule.stages: a part of `bench loader`."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import statistics
from typing import Any

from deit_fast.benchmarks.interleave import interleaved, spread, summary
from deit_fast.benchmarks.rivals.common import views_per_second
from deit_fast.benchmarks.rivals.ours import ours_training
from deit_fast.config import RunConfig, config_of_stage
from deit_fast.record.text_table import text_table


def bench_stages(config: RunConfig, num_cores: int) -> list[dict[str, Any]]:
    """Of each stage of schedule.stages: number from 1, side of its views, betons, views per second, and `times_last`: its rate
    over that of the last stage, which is the median of the rounds.

    In turns; the loader is made anew for each measurement.
    """
    owns = [config_of_stage(config, stage) for stage in config.schedule.stages]
    measures = {number: functools.partial(_rate, own, num_cores) for number, own in enumerate(owns, start=1)}
    rounds = interleaved(measures, config.bench.rounds)
    last = rounds[len(owns)]
    return [
        {
            "stage": number,
            "resolution": own.data.resolution,
            "auto_augment": own.augment.auto_augment,
            "betons": own.data.train,
            "views_per_second": statistics.median(rounds[number]),
            "rounds": rounds[number],
            "times_last": summary([one / other for one, other in zip(rounds[number], last, strict=True)]),
        }
        for number, own in enumerate(owns, start=1)
    ]


def _rate(own: RunConfig, num_cores: int) -> float:
    data = dataclasses.replace(own.data, num_workers=num_cores)
    with contextlib.closing(ours_training(data, own.augment, own.train.seed)) as system:
        for _ in range(system.ahead + 1):  # they write to memory that was never touched before
            next(system.batches)
        return views_per_second(system, own.bench.seconds)


def stages_table(stages: list[dict[str, Any]]) -> str:
    rows = [
        (
            f"  {one['stage']}",
            f"{one['resolution']} pixels, {one['auto_augment'] or 'no policy'}, {one['betons']}",
            f"{one['views_per_second']:,.0f} views/s",
            f"{one['times_last']['median']:.2f} times the last ({spread(one['rounds'])})",
        )
        for one in stages
    ]
    return "\n".join(["stages of the run", *text_table(rows, "<<><")])
