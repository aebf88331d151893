"""Predicts what the points of a sweep cost, counts what they have cost, and says whether the next one fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from deit_fast.config import RunConfig, SweepConfig, UserError
from deit_fast.plan.ledger import key_of
from deit_fast.plan.prediction import Prediction
from deit_fast.record.log import read_events
from deit_fast.record.progress import dollars
from deit_fast.record.run import read_json, read_run
from deit_fast.sweep.ledger import Attempts, is_finished
from deit_fast.sweep.points import Point

Predict = Callable[[RunConfig], Prediction]


@dataclass(frozen=True)
class Predicted:
    """A point's predicted seconds with their interval, or the reason why there is no prediction."""

    seconds: float | None
    low: float = 0.0
    high: float = 0.0
    reason: str = ""


def predictions(
    points: Sequence[Point], predict: Predict, keep: Callable[[RunConfig, Prediction], None] = lambda *_: None
) -> dict[str, Predicted]:
    """The predictions of points by name; points that differ only in options that do not affect time are predicted once.

    keep: called with each new prediction."""
    known: dict[str, Predicted] = {}
    found: dict[str, Predicted] = {}
    for point in points:
        key = key_of(point.config, 1)
        if key not in known:
            try:
                prediction = predict(point.config)
                known[key] = Predicted(prediction.wall_seconds, prediction.low, prediction.high)
                keep(point.config, prediction)
            except UserError as error:
                known[key] = Predicted(None, reason=str(error))
        found[point.name] = known[key]
    return found


def spent_seconds(point: Point, attempts: Attempts) -> float:
    """Seconds that a point has taken, all attempts together.

    The largest of three counts: a run's clock lacks what was lost with a killed session, its log has that, and only the sweep
    knows of an attempt that ended before there was a log.
    """
    of_clock = 0.0
    if is_finished(point):
        of_clock = read_json(point.folder / "summary.json").get("wall_seconds") or 0.0
    return max(of_clock, _logged_seconds(point.folder), attempts.seconds(point))


def _logged_seconds(folder: Path) -> float:
    """Seconds from the start of each of a run's sessions to its last event."""
    log = folder / "log.jsonl"
    if not (folder / "run.json").is_file() or not log.is_file():
        return 0.0
    times = [event["time"] for event in read_events(log) if "time" in event]
    starts = [datetime.fromisoformat(session["started"]).timestamp() for session in read_run(folder)["sessions"]]
    seconds = 0.0
    for start, end in zip(starts, [*starts[1:], float("inf")], strict=True):
        seconds += max(0.0, max((time for time in times if start <= time < end), default=start) - start)
    return seconds


class Budget:
    """The budget of a sweep, and the cost of its points so far."""

    def __init__(self, sweep: SweepConfig, predicted: Mapping[str, Predicted]) -> None:
        self._limits = {"hours": sweep.hours, "dollars": sweep.dollars}
        self._predicted = predicted

    def refuses(self, point: Point, spent: Mapping[str, float], running: Sequence[Point], points: Sequence[Point]) -> str:
        """Why a point may not start, in words; empty: it may.

        spent: seconds by point so far. Points that run now are counted with what they are predicted to take. A point without
        a prediction is expected to take as long as the longest so far.
        """
        longest = max((seconds for name, seconds in spent.items() if name not in {one.name for one in running}), default=0.0)
        seconds = dict(spent)
        for one in (*running, point):
            predicted = self._predicted.get(one.name, Predicted(None)).seconds
            seconds[one.name] = max(spent.get(one.name, 0.0), longest if predicted is None else predicted)
        before = {name: value for name, value in seconds.items() if name != point.name} | {
            point.name: spent.get(point.name, 0.0)
        }
        for unit, limit in self._limits.items():
            if limit is not None and cost(seconds, points, unit) > limit:
                so_far, then = cost(before, points, unit), cost(seconds, points, unit)
                return f"sweep.{unit}={limit:g}: {so_far:.3g} {unit} are spent, and would be {then:.3g} after {point.name}"
        return ""


def cost(seconds: Mapping[str, float], points: Sequence[Point], unit: str) -> float:
    """Hours or dollars of points, from their seconds by name."""
    prices = {point.name: (point.config.run.dollars_per_hour or 0.0) if unit == "dollars" else 1.0 for point in points}
    return sum(dollars(seconds.get(name, 0.0), price) for name, price in prices.items())


def check_prices(sweep: SweepConfig, points: Sequence[Point]) -> None:
    """Raises UserError for a budget in dollars where a point has no price."""
    for point in points:
        if sweep.dollars is not None and not point.config.run.dollars_per_hour:
            raise UserError(f"sweep.dollars={sweep.dollars:g}: run.dollars_per_hour is not set: want the price per hour")


def table(points: Sequence[Point], predicted: Mapping[str, Predicted], states: Mapping[str, str]) -> list[str]:
    """The lines of a dry run: each point with its hours, dollars and state, and the sum of all that are still to run."""
    width = max(len("total to run"), *(len(point.name) for point in points))
    lines = [f"{'point':<{width}}  {'hours':>9}  {'from':>9}  {'to':>9}  {'dollars':>9}"]
    for point in points:
        one = predicted[point.name]
        figures = [None] * 3 if one.seconds is None else [one.seconds / 3600, one.low / 3600, one.high / 3600]
        price = point.config.run.dollars_per_hour
        state = states.get(point.name, "")
        remark = f"  {one.reason or state}" if one.reason or state else ""
        bill = None if one.seconds is None or not price else dollars(one.seconds, price)
        lines.append(f"{point.name:<{width}}  {'  '.join(map(_figure, figures))}  {_figure(bill)}{remark}")
    total = totals(points, predicted, states)
    figures = [total["hours"], None, None, total["dollars"]]
    unknown = f"  without {total['num_unknown']} point(s) that could not be predicted" if total["num_unknown"] else ""
    return [*lines, f"{'total to run':<{width}}  {'  '.join(map(_figure, figures))}{unknown}"]


def totals(points: Sequence[Point], predicted: Mapping[str, Predicted], states: Mapping[str, str]) -> dict[str, Any]:
    """Hours and dollars of all points that are still to run; dollars None where a point has no price."""
    left = [point for point in points if point.name not in states]
    seconds = {point.name: predicted[point.name].seconds or 0.0 for point in left}
    has_prices = all(point.config.run.dollars_per_hour for point in left)
    return {
        "hours": cost(seconds, left, "hours"),
        "dollars": cost(seconds, left, "dollars") if has_prices else None,
        "num_points": len(left),
        "num_unknown": sum(predicted[point.name].seconds is None for point in left),
    }


def _figure(value: float | None) -> str:
    return f"{'–' if value is None else f'{value:.3f}':>9}"
