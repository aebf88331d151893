"""Figures of time to a target: the time of each recipe by target, and performance profiles of recipes."""

from __future__ import annotations

import math

from deit_fast.record.recipes import Recipe
from deit_fast.report.drawing import INK, MAX_LEGEND, Drawing, finish_lines, label_end, line_style, lines_figure, time_unit
from deit_fast.report.targets import Comparison

MOST_TARGETS = 200  # at which a line is computed
_FEWEST = 3  # targets asked for that are a set to make profiles over


def target_figures(comparison: Comparison) -> list[Drawing | None]:
    """Time and dollars by target, and performance profiles; None for what there is nothing to draw of."""
    return [
        _by_target(comparison, "time", "Time by target"),
        _by_target(comparison, "dollars", "Cost by target"),
        profile_figure(comparison),
    ]


def line_by_target(comparison: Comparison, recipe: Recipe, name: str) -> list[tuple[float, float]]:
    """Targets in rising order, and the median seconds or dollars (`name`) of a recipe to each, as long as it is finite.

    They are the values of top-1 to which its runs evaluated. Runs that have not ended are left out, unless none has. The line
    ends where half of its runs have missed the target, and where it is not known of a run whether it reaches it.
    """
    recipe = comparison.ended(recipe) or recipe
    values = sorted({one.top1 for place in recipe.runs for one in comparison.evaluated[place]})
    if len(values) > MOST_TARGETS:
        low, high = values[0], values[-1]
        values = [low + (high - low) * number / (MOST_TARGETS - 1) for number in range(MOST_TARGETS)]
    known, found = comparison.known_up_to(recipe), []
    for target in values:
        middle = getattr(comparison.time(recipe, target), name) if target <= known else None
        if middle is None or not math.isfinite(middle):
            break
        found.append((target, middle))
    return found


def _by_target(comparison: Comparison, name: str, title: str) -> Drawing | None:
    field = "seconds" if name == "time" else name
    lines = {recipe: line for recipe in comparison.recipes if (line := line_by_target(comparison, recipe, field))}
    longest = max((line[-1][1] for line in lines.values()), default=0.0)
    if not longest:
        return None
    unit, divisor = ("dollars", 1.0) if name == "dollars" else time_unit(longest)
    names = [recipe.name for recipe in lines]
    figure, axes = lines_figure(title, names)
    for recipe, line in lines.items():  # a time holds for all targets above the one before, up to its own
        index = comparison.recipes.index(recipe)
        axes.step([x for x, _ in line], [y / divisor for _, y in line], where="pre", **line_style(index, recipe.name))
        end = line[-1][0], line[-1][1] / divisor
        axes.plot(*end, "o", color=f"C{index % 10}", markersize=4)
        if len(lines) > MAX_LEGEND:
            label_end(axes, end, str(comparison.runs[recipe.runs[0]].place))
    for target in comparison.targets:
        axes.axvline(target, color=INK, linewidth=0.8, linestyle=":")
    axes.set_xlabel("target, top-1 / %", fontsize=9)
    axes.set_ylabel(f"{unit} to it, median", fontsize=9)
    finish_lines(figure, axes, names)
    caption = (
        "Of runs that have ended. A line ends where half of a recipe's miss the target, or at the best top-1 of one that ended "
        "at its own target. "
        + ("Dotted: the targets of the table. " if comparison.targets else "")
        + "Lower is better, and further to the right."
    )
    return Drawing(f"target-{name}", title, figure, caption)


def profiles(comparison: Comparison) -> tuple[list[float], dict[str, list[float]]]:
    """Targets, and for each recipe the ratio of its time to the fastest recipe's at each target; infinite where it missed it.

    The targets: those of the table, if they are three or more; else whole percents from half of the highest that a recipe
    reaches in the median up to that. Only targets that some recipe reaches count, and only those of which it is known of each
    run whether it reaches it. Runs that have not ended are left out.
    """
    ended = [left for recipe in comparison.recipes if (left := comparison.ended(recipe))]
    known = min((comparison.known_up_to(recipe) for recipe in ended), default=0.0)
    asked = list(comparison.targets)
    if len(asked) < _FEWEST:
        tops = [line[-1][0] for recipe in ended if (line := line_by_target(comparison, recipe, "seconds"))]
        highest = max(tops, default=0.0)
        asked = [float(percent) for percent in range(math.ceil(highest / 2), math.floor(highest) + 1) if percent > 0]
    targets, ratios = [], {recipe.name: list[float]() for recipe in ended}
    for target in asked:
        times = [comparison.time(recipe, target).seconds for recipe in ended] if target <= known else []
        seconds = [time for time in times if time is not None]
        best = min(seconds, default=math.inf)
        if len(seconds) < len(ended) or not 0 < best < math.inf:
            continue
        targets.append(target)
        for recipe, time in zip(ended, seconds, strict=True):
            ratios[recipe.name].append(time / best)
    return targets, ratios


def profile_figure(comparison: Comparison) -> Drawing | None:
    """Share of targets at which a recipe's time is within a factor of the fastest's, for two recipes or more."""
    targets, ratios = profiles(comparison)
    if len(ratios) < 2 or not targets:
        return None
    title = "Performance profile"
    figure, axes = lines_figure(title, list(ratios))
    finite = [ratio for own in ratios.values() for ratio in own if math.isfinite(ratio)]
    end = max(1.05, 1.05 * max(finite))
    indices = {recipe.name: index for index, recipe in enumerate(comparison.recipes)}
    for recipe, own in ratios.items():
        steps = sorted(ratio for ratio in own if math.isfinite(ratio))
        xs = [1.0, *steps, end]
        ys = [100 * sum(ratio <= x for ratio in steps) / len(own) for x in xs]
        axes.step(xs, ys, where="post", **line_style(indices[recipe], recipe))
    axes.set_xlim(1.0, end)
    axes.set_ylim(-3, 103)
    axes.set_xlabel("factor τ of the fastest recipe's time", fontsize=9)
    axes.set_ylabel("% of targets within it", fontsize=9)
    finish_lines(figure, axes, list(ratios))
    words = f"{len(targets)} targets, top-1 of {targets[0]:g} to {targets[-1]:g} %"
    caption = (
        f"Over {words}: at how many of them a recipe's median time is at most τ times that of the fastest recipe there (Dolan "
        "and Moré, 2002). At τ = 1: how often it is the fastest. Higher is better."
    )
    return Drawing("target-profile", title, figure, caption)
