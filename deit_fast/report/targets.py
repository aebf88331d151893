"""Time to a target: the recipes among the runs of a report, and how long each takes to reach targets of top-1."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from deit_fast.config import ReportConfig, target_top1
from deit_fast.record.recipes import Recipe, check_options, recipe_options, recipes_of
from deit_fast.record.runs import duration, price_words
from deit_fast.record.targets import (
    Evaluation,
    TimeToTarget,
    evaluations,
    known_up_to,
    outcome_of,
    own_target,
    time_to_target,
)
from deit_fast.report.inputs import Inputs, ReportedRun
from deit_fast.report.tables import NONE, Cell, Column, Table, cell, make_table, number


@dataclass(frozen=True)
class Comparison:
    """The runs of a report by recipe, and the targets, top-1 in percent, for which it states times. evaluated: of each run."""

    runs: Sequence[ReportedRun]
    evaluated: Sequence[list[Evaluation]]
    recipes: Sequence[Recipe]
    targets: tuple[float, ...]

    def runs_of(self, recipe: Recipe) -> list[ReportedRun]:
        """The runs of a recipe, in their order."""
        return [self.runs[place] for place in recipe.runs]

    def time(self, recipe: Recipe, target: float) -> TimeToTarget:
        """How long a recipe takes to a target."""
        return time_to_target(
            [[outcome_of(self.runs[place].run, target, self.evaluated[place]) for place in study] for study in recipe.studies]
        )

    def known_up_to(self, recipe: Recipe) -> float:
        """The highest target of which it is known for each run of a recipe whether it reaches it."""
        return min(known_up_to(self.runs[place].run, self.evaluated[place]) for place in recipe.runs)

    def ended(self, recipe: Recipe) -> Recipe | None:
        """A recipe with those of its runs that came to an end, or whose loss was not finite; None without any."""
        runs = [(place, self.runs[place].run) for place in recipe.runs]
        left = {place for place, run in runs if run.end is not None or run.has_diverged}
        studies = (tuple(place for place in study if place in left) for study in recipe.studies)
        return Recipe(recipe.name, tuple(study for study in studies if study)) if left else None

    def recipe_of(self, run: ReportedRun) -> Recipe:
        """The recipe of a run."""
        return next(recipe for recipe in self.recipes if run.place - 1 in recipe.runs)


def check_targets(config: ReportConfig) -> None:
    """Raises UserError for targets and names of options that are none."""
    for target in config.target:
        target_top1(target, "report.target")
    check_options(config.seeds, "report.seeds")
    check_options(config.tuned, "report.tuned")


def comparison_of(inputs: Inputs, config: ReportConfig) -> Comparison:
    """The recipes of all runs, and the targets asked for, or those at which runs were to end."""
    options = [_options_of(one) for one in inputs.runs]
    recipes = recipes_of(options, [one.name for one in inputs.runs], config.seeds, config.tuned)
    own = (own_target(one.run.config) for one in inputs.runs)
    asked = [target_top1(target, "report.target") for target in config.target] or [one for one in own if one is not None]
    return Comparison(inputs.runs, [evaluations(one.run) for one in inputs.runs], recipes, tuple(sorted(set(asked))))


def _options_of(one: ReportedRun) -> dict[str, Any]:
    """What makes a run's recipe: its options, and the machine, without which its seconds mean nothing."""
    hardware = one.run.record.get("hardware") or {}
    gpus = [str(gpu.get("name")) for gpu in hardware.get("gpus") or []]
    machine = {"cpu": hardware.get("cpu"), "cores": hardware.get("allowed_cores"), "gpus": gpus}
    return recipe_options(one.run.config) | machine | {name: one.run.start.get(name) for name in ("device", "world_size")}


def target_table(comparison: Comparison) -> Table | None:
    """A row for each recipe and target: how many runs reached it, and the median time, epochs and dollars to it."""
    is_tuned = any(len(study) > 1 for recipe in comparison.recipes for study in recipe.studies)
    columns = (
        Column("Recipe", mark="name"), Column("Target", target_words), Column("Runs"), Column("Reached", number),
        Column("Missed", number), Column("Open", number), *((Column("Studies", number),) if is_tuned else ()),
        Column("Time to it", duration, "strong"), Column("Fastest", duration), Column("Slowest", duration),
        Column("Epochs to it", number), Column("Cost to it", price_words),
    )  # fmt: skip
    rows = []
    for target in comparison.targets:
        for recipe in comparison.recipes:
            time = comparison.time(recipe, target)
            counts = (time.num_reached, time.num_missed, time.num_open, *((time.num_studies,) if is_tuned else ()))
            middle = median_cell(time.seconds, duration, time)
            others = (time.low, time.high, median_cell(time.epochs, number), median_cell(time.dollars, price_words))
            rows.append((recipe.name, target, _places(comparison.runs_of(recipe)), *counts, middle, *others))
    note = (
        "A recipe: runs that differ in seeds alone, on machines of one kind. Time to it: wall-clock time of the whole run, "
        "with set-up and all sessions, until the end of the first evaluation that reaches the target; the median over runs, in "
        "which a run that missed it counts as infinite. Missed: the run came to its end, or its loss was not finite. Open, and "
        "not in the median: it has not ended, failed otherwise, or ended at a lower target of its own. Fastest, slowest: of "
        "those that reached it."
    )
    if is_tuned:
        note += " The runs of a study differ in tuned options; its fastest counts, and the median is over studies."
    return make_table("Time to a target", columns, rows, note)


def median_cell(value: float | None, form: Callable[[Any], str], time: TimeToTarget | None = None) -> Cell:
    """The cell of a median; for an infinite one, with a time: by how many runs or studies the target was missed."""
    if value is None or math.isfinite(value):
        return cell(value, form, "strong" if time else "")
    if time is None:
        return Cell(NONE)
    words = f"missed by {time.num_studies_missed} of {time.num_studies_reached + time.num_studies_missed}"
    return Cell(words + (" studies" if time.num_studies < time.num_runs else ""), None, "bad")


def target_words(target: float) -> str:
    """A target as a table has it."""
    return f"{target:g} %"


def _places(runs: Sequence[ReportedRun]) -> str:
    """The numbers of runs, such as 1–3, 7."""
    parts: list[list[int]] = []
    for one in runs:
        if parts and one.place == parts[-1][-1] + 1:
            parts[-1].append(one.place)
        else:
            parts.append([one.place])
    return ", ".join(f"{part[0]}–{part[-1]}" if len(part) > 2 else ", ".join(map(str, part)) for part in parts)


def run_columns(comparison: Comparison, one: ReportedRun) -> dict[str, Any]:
    """A run's recipe, and for each target its outcome, epochs, seconds and dollars, for JSON and CSV."""
    found: dict[str, Any] = {}
    for target in comparison.targets:
        outcome = outcome_of(one.run, target, comparison.evaluated[one.place - 1])
        found[f"top1={target:g}"] = {
            "outcome": outcome.state, "epochs": outcome.epochs, "seconds": outcome.seconds, "dollars": outcome.dollars,
        }  # fmt: skip
    return {"recipe": comparison.recipe_of(one).name, "to": found}


def recipe_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """The table's numbers for JSON."""
    return [
        {"recipe": recipe.name, "target": target, **comparison.time(recipe, target).as_dict()}
        for target in comparison.targets
        for recipe in comparison.recipes
    ]
