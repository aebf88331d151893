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
from deit_fast.config import DataConfig, RunConfig, UserError, check_stages
from deit_fast.data.fetch.local import local_text
from deit_fast.record.text_table import text_table
from deit_fast.train.schedule import Stage, loaded_resolution, numbered_stage


def check_schedule(config: RunConfig) -> None:
    """Raises UserError for stages that a run cannot have, and for stages with betons of their own beside source.path."""
    for number, stage in enumerate(config.schedule.stages, start=1):
        if config.source.path and "data.train" in stage:
            raise UserError(
                f"source.path={config.source.path}: stage {number} of schedule.stages has betons of its own "
                f"(data.train={stage['data.train']}); want data.train instead of source.path, or no data.train in stages"
            )
    # images of source.path stand for data.train, which a stage may not lack
    check_stages(config.changed({"data.train": config.data.train or config.source.path}), world_size=1)


def bench_schedule(config: RunConfig, num_cores: int) -> list[dict[str, Any]]:
    """Of each stage of schedule.stages: number from 1; side of its views in pixels, `resolution`, and side at which the loader
    makes them, `loaded_resolution`; betons, views per second, and `times_last`: its rate over that of the last stage, which is
    the median of the rounds.

    In turns; the loader is made anew for each measurement. Betons at addresses are copied before the first.
    """
    stages = [numbered_stage(config, number) for number in range(len(config.schedule.stages))]
    sides = [loaded_resolution(config, stage) for stage in stages]
    measures = {
        stage.number: functools.partial(_rate, _data(stage, side, num_cores), stage, config)
        for stage, side in zip(stages, sides, strict=True)
    }
    rounds = interleaved(measures, config.bench.rounds)
    last = rounds[len(stages) - 1]
    return [
        {
            "stage": stage.number + 1,
            "resolution": stage.resolution,
            "loaded_resolution": side,
            "auto_augment": stage.augment.auto_augment,
            "betons": stage.betons,
            "views_per_second": statistics.median(rounds[stage.number]),
            "rounds": rounds[stage.number],
            "times_last": summary([one / other for one, other in zip(rounds[stage.number], last, strict=True)]),
        }
        for stage, side in zip(stages, sides, strict=True)
    ]


def _data(stage: Stage, side: int, num_cores: int) -> DataConfig:
    """The loader's options in a stage, of betons on this machine."""
    try:
        here = local_text(stage.data, "train")
    except UserError as error:
        raise UserError(f"schedule.stages: stage {stage.number + 1}: {error}") from None
    return dataclasses.replace(stage.data, train=here, resolution=side, num_workers=num_cores)


def _rate(data: DataConfig, stage: Stage, config: RunConfig) -> float:
    with contextlib.closing(ours_training(data, stage.augment, config.train.seed)) as system:
        for _ in range(system.ahead + 1):  # they write to memory that was never touched before
            next(system.batches)
        return views_per_second(system, config.bench.seconds)


def schedule_table(stages: list[dict[str, Any]]) -> str:
    rows = [
        (
            f"  {one['stage']}",
            f"{_side(one)}, {one['auto_augment'] or 'no policy'}, {one['betons']}",
            f"{one['views_per_second']:,.0f} views/s",
            f"({spread(one['rounds'])})",
            f"{one['times_last']['median']:.2f} times the last",
        )
        for one in stages
    ]
    return "\n".join(["stages of the run", *text_table(rows, "<<><<")])


def _side(one: dict[str, Any]) -> str:
    made, kept = one["loaded_resolution"], one["resolution"]
    return f"{kept} pixels" + (f" from {made}" if made != kept else "")
