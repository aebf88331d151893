"""Adds up the seconds of a run, by kind, from measurements of its parts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

from deit_fast.config import RunConfig
from deit_fast.plan.probe import Probes, Steps, side_of
from deit_fast.plan.run_counts import RunCounts, is_in_tail
from deit_fast.record.clock import KINDS
from deit_fast.train.schedule import Stage, stages_of


def predicted_seconds(counts: RunCounts, probes: Probes, setup: float) -> tuple[dict[str, float], float]:
    """(seconds by kind, standard error of their sum in seconds). setup: seconds before the first step.

    A step at an unmeasured resolution is interpolated linearly in the number of pixels from the two nearest ones. The wait for
    a checkpoint is the time to copy it, plus the time by which writing the one before exceeds the steps between.
    """
    seconds = dict.fromkeys(KINDS, 0.0)
    errors = []
    seconds["setup"] = setup
    seconds["compile"] = probes.first_batch
    for epochs_at, measured in ((counts.epochs_at, probes.steps), (counts.tail_at, probes.tail)):
        for side, epochs in epochs_at.items():
            num_steps, nearest = epochs * counts.steps_per_epoch, _nearest(side, measured)
            wait, compute = _step(side, measured)
            seconds["compile"] += nearest.first
            seconds["data_wait"] += wait * (num_steps - epochs)
            seconds["compute"] += compute * num_steps
            errors += [num_steps * nearest.wait.error, num_steps * nearest.compute.error]
    later = counts.epochs - 1  # the first batch of the first is counted as compiling
    seconds["data_wait"] += later * probes.epoch_start.mean
    seconds["evaluation"] = counts.num_evaluations * probes.evaluation.mean
    seconds["compile"] += probes.compile_evaluation
    between = (seconds["compute"] + seconds["data_wait"] + seconds["evaluation"]) / max(counts.num_checkpoints, 1)
    seconds["checkpoint"] = counts.num_checkpoints * (probes.checkpoint.mean + max(0.0, probes.write - between)) + probes.write
    errors += [
        later * probes.epoch_start.error,
        counts.num_evaluations * probes.evaluation.error,
        counts.num_checkpoints * probes.checkpoint.error,
    ]
    return seconds, math.hypot(*errors)


def training_shares(config: RunConfig, steps_per_epoch: int, probes: Probes) -> list[tuple[Stage, int, float]]:
    """Of each stage of a run: the stage, its epochs, and its share of the seconds of all training steps."""
    stages = stages_of(config)
    seconds = dict.fromkeys(stages, 0.0)
    for epoch, stage in enumerate(stages):
        measured = probes.tail if is_in_tail(config, epoch) else probes.steps
        own = _nearest(stage.resolution, measured).by_betons.get(stage.betons, 1.0)
        seconds[stage] += steps_per_epoch * own * sum(_step(stage.resolution, measured))
    total = sum(seconds.values())
    return [(stage, num, seconds[stage] / total) for stage, num in Counter(stages).items()]


def _step(side: int, measured: Mapping[int, Steps]) -> tuple[float, float]:
    """Seconds of waiting and of computing in a step at a side of a view."""
    wait, compute = (
        _at(side, {at: getattr(steps, kind).mean for at, steps in measured.items()}) for kind in ("wait", "compute")
    )
    return wait, compute


def _nearest(side: int, steps: Mapping[int, Steps]) -> Steps:
    return steps[side_of(steps, side)]


def _at(side: int, known: dict[int, float]) -> float:
    """A value at a side of a view, interpolated linearly in the number of pixels from the two nearest sides."""
    if side in known:
        return known[side]
    nearest = sorted(known, key=lambda at: abs(at - side))[:2]
    if len(nearest) == 1:
        return known[nearest[0]] * side**2 / nearest[0] ** 2
    (x0, y0), (x1, y1) = ((at**2, known[at]) for at in nearest)
    return max(0.0, y0 + (y1 - y0) * (side**2 - x0) / (x1 - x0))
