"""When runs reach a target of top-1: seconds, epochs and dollars to it, and their medians over studies.

The definitions are AlgoPerf's (Dahl et al., arXiv 2306.07179): a run's time to a target ends at its first evaluation that
reaches it, and is infinite if the run misses it; a study's time is that of its fastest run; what counts is the median over
studies.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

from deit_fast.config import target_top1
from deit_fast.record.progress import dollars
from deit_fast.record.runs import Event, Run


@dataclass(frozen=True)
class Evaluation:
    """An evaluation: epochs begun, seconds of the run until its end (None: not logged), top-1 / % of the better weights.

    A run that its budget ended within an epoch is evaluated there: that epoch counts whole.
    """

    epochs: int
    seconds: float | None
    top1: float


@dataclass(frozen=True)
class Outcome:
    """What became of a run and a target. Seconds and dollars are None where they are not known.

    open: the run has not ended, or it ended at a lower target of its own, so that nobody knows whether it would reach this one.
    """

    state: Literal["reached", "missed", "open"]
    epochs: int | None = None
    seconds: float | None = None
    dollars: float | None = None


@dataclass(frozen=True)
class TimeToTarget:
    """Times of studies to a target.

    num_reached, num_missed, num_open: runs. num_studies_reached, num_studies_missed: the studies whose end is known. epochs,
    seconds, dollars: the median over these; infinite if half of them or more missed the target; else None if there are none, or
    a number of one is not known.
    low, high: seconds of the fastest and of the slowest study that reached it; None without any.
    """

    num_reached: int
    num_missed: int
    num_open: int
    num_studies: int
    num_studies_reached: int
    num_studies_missed: int
    epochs: float | None
    seconds: float | None
    dollars: float | None
    low: float | None
    high: float | None

    @property
    def num_runs(self) -> int:
        """Number of runs."""
        return self.num_reached + self.num_missed + self.num_open

    def as_dict(self) -> dict[str, Any]:
        """The numbers for JSON; is_missed: the median is infinite, and then None here, as its epochs and dollars."""
        numbers = {name: None if value == math.inf else value for name, value in dataclasses.asdict(self).items()}
        return {"num_runs": self.num_runs, **numbers, "is_missed": self.seconds == math.inf}


def evaluations(run: Run) -> list[Evaluation]:
    """The evaluations of a run, in their order. Of the weights evaluated after one epoch, the better ones count."""
    by_epoch: dict[int, list[Event]] = {}
    for event in run.evals:
        if event.get("top1") is not None:
            by_epoch.setdefault(event["epoch"], []).append(event)
    found = []
    for epoch, events in sorted(by_epoch.items()):
        known = [seconds for event in events if (seconds := _run_seconds(run, event)) is not None]
        found.append(Evaluation(epoch + 1, max(known, default=None), max(event["top1"] for event in events)))
    return found


def _run_seconds(run: Run, event: Event) -> float | None:
    """Seconds of the run until an evaluation, all sessions together, as its clock counts them; None: not known.

    A log without them has the seconds of each epoch and the times of events. These lack what an interrupted session trained of
    an epoch that a later one completed.
    """
    if event.get("run_seconds") is not None:
        return float(event["run_seconds"])
    epochs = [one for one in run.epochs if one["epoch"] <= event["epoch"] and one.get("seconds")]
    if not epochs or None in (event.get("time"), epochs[-1].get("time")):
        return None
    so_far = sum(value or 0.0 for one in epochs for value in one["seconds"].values())
    return so_far + max(0.0, event["time"] - epochs[-1]["time"])


def outcome_of(run: Run, target: float, evaluated: Sequence[Evaluation] | None = None) -> Outcome:
    """What became of a run and a target, top-1 in percent. evaluated: the run's evaluations, where they are known already.

    A run that ended because its loss was not finite has missed it. One that failed otherwise, or goes on, is open.
    """
    evaluated = evaluations(run) if evaluated is None else evaluated
    for one in evaluated:
        if one.top1 >= target:
            price = run.config.get("run.dollars_per_hour")
            cost = dollars(one.seconds, price) if price and one.seconds is not None else None
            return Outcome("reached", one.epochs, one.seconds, cost)
    return Outcome("missed" if target <= known_up_to(run, evaluated) else "open")


def known_up_to(run: Run, evaluated: Sequence[Evaluation]) -> float:
    """The highest target of which it is known whether a run with these evaluations reaches it, top-1 in percent.

    Infinite for a run that came to its end. Of one that has not, or that ended at a target of its own: its best top-1.
    """
    if run.has_diverged or (run.end is not None and run.end.get("stopped") != "target"):
        return math.inf
    return max((one.top1 for one in evaluated), default=0.0)


def own_target(config: dict[str, Any]) -> float | None:
    """The target in a configuration by dotted name; None without one."""
    until = config.get("budget.until")
    return target_top1(until) if until and until != "off" else None


def time_to_target(studies: Sequence[Sequence[Outcome]]) -> TimeToTarget:
    """The times of studies, each of one run or more. A study reaches a target with its fastest run, and misses it if all do."""
    outcomes = [outcome for study in studies for outcome in study]
    counts = {state: sum(one.state == state for one in outcomes) for state in ("reached", "missed", "open")}
    fastest = [min(reached, key=_order) for study in studies if (reached := [one for one in study if one.state == "reached"])]
    num_missed = sum(all(one.state == "missed" for one in study) for study in studies)

    def median_of(number: Callable[[Outcome], float | None]) -> float | None:
        if num_missed and num_missed >= len(fastest):  # infinite, whatever the others are
            return math.inf
        known = [number(one) for one in fastest]
        values = [value for value in known if value is not None] + [math.inf] * num_missed
        return median(values) if values and None not in known else None

    seconds = [one.seconds for one in fastest if one.seconds is not None]
    return TimeToTarget(
        num_reached=counts["reached"],
        num_missed=counts["missed"],
        num_open=counts["open"],
        num_studies=len(studies),
        num_studies_reached=len(fastest),
        num_studies_missed=num_missed,
        epochs=median_of(lambda one: one.epochs),
        seconds=median_of(lambda one: one.seconds),
        dollars=median_of(lambda one: one.dollars),
        low=min(seconds, default=None),
        high=max(seconds, default=None),
    )


def _order(outcome: Outcome) -> float:
    """Key by which the fastest run comes first, and those of unknown seconds last."""
    return math.inf if outcome.seconds is None else outcome.seconds
