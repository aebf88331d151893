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

    Labels take no time of a step that could be measured. A step is then as long as the longer of the loader's batch and of the
    rest of the step; a step of teaching as long as the longer of the batch and the teacher. At other resolutions than the
    largest, the teacher's share of a step is taken to be the same.
    """
    if probes.teacher is None:
        return None
    largest = max(probes.steps)
    share = min(1.0, probes.teacher.mean / probes.steps[largest].compute.mean)
    without = {
        side: _without_teacher(steps, probes.loader.mean * side**2 / largest**2, share) for side, steps in probes.steps.items()
    }
    live, _ = predicted_seconds(counts, probes, setup)
    stored, _ = predicted_seconds(counts, dataclasses.replace(probes, steps=without), setup)
    teaching = {
        side: Steps(0.0, _always(max(0.0, probes.loader.mean * side**2 / largest**2 - share * steps.compute.mean)),
                    _always(share * steps.compute.mean))
        for side, steps in probes.steps.items()
    }  # fmt: skip
    only_steps = dataclasses.replace(
        probes, steps=teaching, evaluation=_always(0.0), compile_evaluation=0.0, checkpoint=_always(0.0), write=0.0
    )
    teach = sum(predicted_seconds(counts, only_steps, setup)[0].values())
    saved = sum(live.values()) - sum(stored.values())
    pays_from = math.floor(teach / saved) + 1 if saved > 0.01 * sum(live.values()) else None
    return Stored(teach, sum(live.values()), sum(stored.values()), pays_from)


def _without_teacher(steps: Steps, loader: float, share: float) -> Steps:
    compute = steps.compute.mean * (1 - share)
    # the wait is what the loader takes beyond the rest of a step, but no more than it would be of one that waits alone
    return dataclasses.replace(steps, compute=_always(compute), wait=_always(max(steps.wait.mean, loader - compute)))


def _always(seconds: float) -> Measured:
    return Measured((seconds, seconds))
