"""Predicts what the points of a sweep cost, counts what they have cost, and says whether the next one fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from deit_fast.config import RunConfig, SweepConfig, UserError
from deit_fast.plan.ledger import append_plan, key_of, machine_of
from deit_fast.plan.prediction import Prediction
from deit_fast.record.log import read_events
from deit_fast.record.progress import dollars
from deit_fast.record.run import hardware, read_json, read_run
from deit_fast.record.text_table import text_table
from deit_fast.sweep.ledger import Attempts, is_finished
from deit_fast.sweep.points import Point

Predict = Callable[[RunConfig], Prediction]
Predicted = Prediction | UserError  # the error: why there is no prediction


def predictions(points: Sequence[Point], predict: Predict, folder: Path | None = None) -> dict[str, Predicted]:
    """The predictions of points by name; points that differ only in options that do not affect time are predicted once.

    folder: of the sweep, in whose ledger each prediction is kept for its run to find; None: nothing is kept.
    """
    known: dict[str, Predicted] = {}
    found: dict[str, Predicted] = {}
    for point in points:
        key = key_of(point.config, 1)
        if key not in known:
            try:
                known[key] = prediction = predict(point.config)
                if folder is not None:
                    append_plan(folder, point.config, 1, machine_of(hardware()), prediction)
            except UserError as error:
                known[key] = error
        found[point.name] = known[key]
    return found


def seconds_of(predicted: Predicted | None) -> float | None:
    """The predicted seconds; None where they are not known."""
    return predicted.wall_seconds if isinstance(predicted, Prediction) else None


def spent_seconds(point: Point, attempts: Attempts) -> float:
    """Seconds that a point has taken, all attempts together.

    The largest of three counts: a run's clock lacks what was lost with a killed session, its log has that, and only the sweep
    knows of an attempt that ended before there was a log.
    """
    summary = read_json(point.folder / "summary.json") if is_finished(point) else {}
    return max(summary.get("wall_seconds") or 0.0, _logged_seconds(point.folder), attempts.seconds(point))


def _logged_seconds(folder: Path) -> float:
    """Sum over a run's sessions of the seconds from the start to the last event."""
    log = folder / "log.jsonl"
    if not (folder / "run.json").is_file() or not log.is_file():
        return 0.0
    times = [event["time"] for event in read_events(log) if "time" in event]
    starts = [datetime.fromisoformat(session["started"]).timestamp() for session in read_run(folder)["sessions"]]
    seconds = 0.0
    for start, end in zip(starts, [*starts[1:], float("inf")], strict=True):
        seconds += max((time - start for time in times if start <= time < end), default=0.0)
    return seconds


class Budget:
    """The budget of a sweep, and what its points are predicted to take."""

    def __init__(self, sweep: SweepConfig, predicted: Mapping[str, Predicted]) -> None:
        self._limits = {"hours": sweep.hours, "dollars": sweep.dollars}
        self._predicted = predicted

    def refuses(self, point: Point, spent: Mapping[str, float], running: Sequence[Point], points: Sequence[Point]) -> str:
        """Why a point may not start, in words; empty: it may.

        spent: seconds so far of each point. Points that run now are counted with what they are predicted to take. A point
        without a prediction is expected to take as long as the longest so far.
        """
        longest = max((spent[one.name] for one in points if one not in running), default=0.0)
        seconds = dict(spent)
        for one in (*running, point):
            expected = seconds_of(self._predicted.get(one.name))
            seconds[one.name] = max(spent[one.name], longest if expected is None else expected)
        before = seconds | {point.name: spent[point.name]}
        for unit, limit in self._limits.items():
            so_far, then = cost(before, points, unit), cost(seconds, points, unit)
            if limit is not None and then > limit:
                return f"sweep.{unit}={limit:g}: {so_far:.3g} {unit} are spent, and would be {then:.3g} after {point.name}"
        return ""


def cost(seconds: Mapping[str, float], points: Sequence[Point], unit: str) -> float:
    """Hours or dollars of points, from their seconds by name."""
    prices = {one.name: (one.config.run.dollars_per_hour or 0.0) if unit == "dollars" else 1.0 for one in points}
    return sum(dollars(seconds[name], price) for name, price in prices.items())


def check_prices(sweep: SweepConfig, points: Sequence[Point]) -> None:
    """Raises UserError for a budget in dollars where a point has no price."""
    if sweep.dollars is not None and not all(point.config.run.dollars_per_hour for point in points):
        raise UserError(f"sweep.dollars={sweep.dollars:g}: run.dollars_per_hour is not set: want the price per hour")


def table(points: Sequence[Point], predicted: Mapping[str, Predicted], states: Mapping[str, str]) -> list[str]:
    """The lines of a dry run: each point with its hours, dollars and state, and the sum of all that are still to run."""
    rows: list[tuple[str, ...]] = [("point", "hours", "from", "to", "dollars", "")]
    for point in points:
        one, price = predicted[point.name], point.config.run.dollars_per_hour
        if isinstance(one, UserError):
            rows.append((point.name, *4 * "–", str(one)))
            continue
        hours = (_figure(seconds / 3600) for seconds in (one.wall_seconds, one.low, one.high))
        bill = dollars(one.wall_seconds, price) if price else None
        rows.append((point.name, *hours, _figure(bill), states.get(point.name, "")))
    total = totals(points, predicted, states)
    unknown = f"without {total['num_unknown']} point(s) that could not be predicted" if total["num_unknown"] else ""
    rows.append(("total to run", _figure(total["hours"]), "–", "–", _figure(total["dollars"]), unknown))
    return text_table(rows, "<>>>><")


def totals(points: Sequence[Point], predicted: Mapping[str, Predicted], states: Mapping[str, str]) -> dict[str, Any]:
    """Hours and dollars of all points that are still to run; dollars None where a point has no price."""
    left = [point for point in points if point.name not in states]
    known = {point.name: seconds_of(predicted[point.name]) for point in left}
    seconds = {name: value or 0.0 for name, value in known.items()}
    return {
        "hours": cost(seconds, left, "hours"),
        "dollars": cost(seconds, left, "dollars") if all(one.config.run.dollars_per_hour for one in left) else None,
        "num_points": len(left),
        "num_unknown": list(known.values()).count(None),
    }


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
