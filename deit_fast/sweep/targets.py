"""Tells how long the points of a sweep take to the target in budget.until, by recipe over their seeds."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from deit_fast.config import UserError
from deit_fast.record.log import as_json
from deit_fast.record.recipes import Recipe, check_options, recipe_options, recipes_of
from deit_fast.record.run import read_json
from deit_fast.record.runs import by_dotted_name, duration, load_run, price_words
from deit_fast.record.targets import Outcome, TimeToTarget, outcome_of, own_target, time_to_target
from deit_fast.record.text_table import text_table
from deit_fast.sweep.ledger import Attempts, is_finished
from deit_fast.sweep.points import Point


@dataclass(frozen=True)
class Target:
    """A target, top-1 in percent, the points that were to end there, and their recipes."""

    top1: float
    points: Sequence[Point]
    recipes: Sequence[Recipe]

    def time(self, recipe: Recipe, attempts: Attempts) -> TimeToTarget:
        """How long a recipe takes to the target, by what has ended so far."""
        return time_to_target(
            [[_outcome(self.points[index], self.top1, attempts) for index in study] for study in recipe.studies]
        )


def targets_of(points: Sequence[Point], tuned: Sequence[str]) -> list[Target]:
    """The targets in the points' budget.until; none where no point has one. Raises UserError for a tuned one that is none."""
    check_options(tuned, "sweep.tuned")
    found = []
    tops = [own_target({"budget.until": point.config.budget.until}) for point in points]
    for top1 in sorted({top1 for top1 in tops if top1 is not None}):
        own = [point for point, asked in zip(points, tops, strict=True) if asked == top1]
        options = [recipe_options(by_dotted_name(as_json(point.config.as_dict()))) for point in own]
        found.append(Target(top1, own, recipes_of(options, [point.name for point in own], tuned=tuned)))
    return found


def lines_after(point: Point, targets: Sequence[Target], attempts: Attempts) -> list[str]:
    """The lines to print after a point has ended: whether it reached its target, and the results of its recipe so far."""
    lines = []
    for target in targets:
        if point not in target.points:
            continue
        outcome = _outcome(point, target.top1, attempts)
        index = target.points.index(point)
        recipe = next(recipe for recipe in target.recipes if index in recipe.runs)
        goal = f"top1={target.top1:g}"
        words = f"missed {goal}" if outcome.state == "missed" else f"{goal} stays open"
        if outcome.state == "reached":
            epochs = f"{outcome.epochs} epoch{'' if outcome.epochs == 1 else 's'}"
            words = f"reached {goal} after {duration(outcome.seconds)}, {epochs}{_price(outcome.dollars)}"
        lines.append(f"  {words}; {recipe.name}: {_standing(target.time(recipe, attempts))}")
    return lines


def table(targets: Sequence[Target], attempts: Attempts) -> list[str]:
    """The lines of a table for each target: a row for each recipe."""
    lines = []
    for target in targets:
        rows: list[tuple[str, ...]] = [
            ("recipe", "points", "reached", "missed", "open", "studies", "median", "fastest", "slowest", "epochs", "dollars")
        ]
        for recipe in target.recipes:
            time = target.time(recipe, attempts)
            counts = map(str, (time.num_runs, time.num_reached, time.num_missed, time.num_open, time.num_studies))
            seconds = (_word(time.seconds, duration), duration(time.low), duration(time.high))
            rows.append((recipe.name, *counts, *seconds, _word(time.epochs, "{:g}".format), _word(time.dollars, price_words)))
        lines += [f"time to top1={target.top1:g}, median over studies:", *text_table(rows, "<" + 10 * ">")]
    return lines


def rows_of(targets: Sequence[Target], attempts: Attempts) -> list[dict[str, Any]]:
    """The tables' numbers for JSON."""
    return [
        {"recipe": recipe.name, "target": target.top1, **target.time(recipe, attempts).as_dict()}
        for target in targets
        for recipe in target.recipes
    ]


def _outcome(point: Point, target: float, attempts: Attempts) -> Outcome:
    """Whether an ended point reached the target, by its summary, or by its log if that lacks it; other points are open."""
    has_ended = is_finished(point)
    if has_ended:
        found = read_json(point.folder / "summary.json").get("target") or {}
        if found.get("top1") == target:
            state = "reached" if found["is_reached"] else "missed"
            return Outcome(state, *(found.get(name) for name in ("epochs", "seconds", "dollars")))  # type: ignore[arg-type]
    if has_ended or attempts.last(point) == "failed":
        try:
            return outcome_of(load_run(point.folder), target)
        except UserError:  # it ended before it trained
            pass
    return Outcome("open")


def _standing(time: TimeToTarget) -> str:
    """The counts of a recipe's studies, and its median so far, in words."""
    counts = f"{time.num_studies_reached} of {time.num_studies} reached it, {time.num_studies_missed} missed it"
    is_missed = time.seconds is not None and math.isinf(time.seconds)
    return f"{counts}, {'no median: half or more missed it' if is_missed else f'median {duration(time.seconds)}'}"


def _word(value: float | None, form: Callable[[float], str]) -> str:
    return "–" if value is None else "missed" if math.isinf(value) else form(value)


def _price(dollars: float | None) -> str:
    return "" if dollars is None else f", {price_words(dollars)}"
