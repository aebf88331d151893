"""What it would take to store a teacher's answers first, and from how many runs on that pays."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from deit_fast.plan.predict import predicted_seconds
from deit_fast.plan.probe import Measured, Probes, Steps
from deit_fast.plan.run_counts import RunCounts


@dataclass(frozen=True)
class Stored:
    """Seconds of `deit-fast teach` for the epochs of a run, of the run with the teacher, and of a run with its labels.

    pays_from: number of runs from which on labels take less time; None: never, as where the loader is the limit.
    """

    teach: float
    live: float
    stored: float
    pays_from: int | None


def stored_labels(counts: RunCounts, probes: Probes, setup: float) -> Stored | None:
    """Both ways, from the measurements of a run with a teacher; None without one. setup: seconds before the first step.

    Labels take no time of a step that could be measured. The teacher and the loader's batch take time in proportion to
    pixels. A step waits for its batch as long as it did, or, if it computes less, as much longer as the batch takes.
    """
    if probes.teacher is None:
        return None
    largest, teacher, loader = max(probes.steps), probes.teacher.mean, probes.loader.mean

    def step(side: int, steps: Steps, compute: float) -> Steps:
        wait = max(steps.wait.mean, loader * side**2 / largest**2 - compute)
        return dataclasses.replace(steps, compute=_always(compute), wait=_always(wait))

    def without_teacher(of: dict[int, Steps]) -> dict[int, Steps]:
        return {
            side: step(side, steps, max(0.0, steps.compute.mean - teacher * side**2 / largest**2)) for side, steps in of.items()
        }

    without = dataclasses.replace(probes, steps=without_teacher(probes.steps), tail=without_teacher(probes.tail))
    live, _ = predicted_seconds(counts, probes, setup)
    stored, _ = predicted_seconds(counts, without, setup)
    teaching = {side: step(side, steps, teacher * side**2 / largest**2) for side, steps in probes.steps.items()}
    only_steps = dataclasses.replace(
        probes,
        steps=teaching,
        tail={side: teaching[side] for side in probes.tail},
        evaluation=_always(0.0),
        compile_evaluation=0.0,
        checkpoint=_always(0.0),
        write=0.0,
    )
    teach = sum(predicted_seconds(counts, only_steps, setup)[0].values())
    saved = sum(live.values()) - sum(stored.values())
    pays_from = math.floor(teach / saved) + 1 if saved > 0.01 * sum(live.values()) else None
    return Stored(teach, sum(live.values()), sum(stored.values()), pays_from)


def _always(seconds: float) -> Measured:
    return Measured((seconds, seconds))
