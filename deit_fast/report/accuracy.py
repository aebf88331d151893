"""Figures of top-1 by epoch, by time and by dollar: every run in the colour of its recipe, and published curves beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import mean

from matplotlib.axes import Axes

from deit_fast.record.progress import dollars
from deit_fast.record.recipes import Recipe
from deit_fast.record.targets import Evaluation
from deit_fast.report.drawing import (
    MAX_LABEL,
    MAX_LEGEND,
    PUBLISHED,
    Drawing,
    finish_lines,
    label_end,
    line_style,
    lines_figure,
    literal,
    short,
    time_unit,
)
from deit_fast.report.published_curves import PublishedCurve
from deit_fast.report.targets import Comparison

_LONGEST_END = 24  # characters of a published curve's name at its end
Position = Callable[[Evaluation], float | None]


def accuracy_figures(comparison: Comparison, curves: Sequence[PublishedCurve]) -> list[Drawing | None]:
    """Top-1 by epoch, by time and by dollars; None where nothing is known. By epoch only for several runs, or with curves."""
    longest = max((one.seconds or 0.0 for found in comparison.evaluated for one in found), default=0.0)
    unit, divisor = time_unit(longest)
    several = len(comparison.runs) > 1

    def seconds(one: Evaluation) -> float | None:
        return None if one.seconds is None else one.seconds / divisor

    def prices(place: int) -> Position:
        price = comparison.runs[place].run.config.get("run.dollars_per_hour")
        return lambda one: None if one.seconds is None or not price else dollars(one.seconds, price)

    return [
        _figure(comparison, "epoch", "epochs", lambda _: lambda one: one.epochs, curves) if several or curves else None,
        _figure(comparison, "time", f"{unit}, wall clock", lambda _: seconds),
        _figure(comparison, "dollar", "dollars", prices),
    ]


def _figure(
    comparison: Comparison, what: str, unit: str, position: Callable[[int], Position], curves: Sequence[PublishedCurve] = ()
) -> Drawing | None:
    """position: where along the axis an evaluation of the run at a place stands."""
    drawn = {
        recipe: lines
        for recipe in comparison.recipes
        if any(lines := [_points(comparison.evaluated[place], position(place)) for place in recipe.runs])
    }
    if not drawn and not curves:
        return None
    labels = [*(recipe.name for recipe in drawn), *(f"{curve.name}, not ours" for curve in curves)]
    title = f"Top-1 by {what}"
    figure, axes = lines_figure(title, labels)
    for recipe, lines in drawn.items():
        _draw(axes, comparison, recipe, lines, len(labels))
    for index, curve in enumerate(curves):
        _draw_published(axes, curve, index, len(labels))
    axes.set_xlabel(unit, fontsize=9)
    axes.set_ylabel("top-1 / %", fontsize=9)
    finish_lines(figure, axes, labels)
    caption = ["The better of raw and EMA weights at each evaluation."] if drawn else []
    if any(len(recipe.runs) > 1 for recipe in drawn):
        caption.append("Thin: each run; thick: the mean of a recipe's runs at the epochs that all of them evaluated.")
    caption += [f"{curve.name}: {curve.source}." for curve in curves]
    return Drawing(f"curves-top-1-by-{what}", title, figure, " ".join(caption))


def _points(evaluated: Sequence[Evaluation], position: Position) -> dict[int, tuple[float, float]]:
    """Position and top-1 of evaluations, by epochs begun."""
    found = ((one, position(one)) for one in evaluated)
    return {one.epochs: (x, one.top1) for one, x in found if x is not None}


def _draw(
    axes: Axes,
    comparison: Comparison,
    recipe: Recipe,
    lines: Sequence[dict[int, tuple[float, float]]],
    num_labels: int,
) -> None:
    """Thin lines for the runs of a recipe, and a thick one for their mean; for a single run the thick one.

    num_labels: of the figure; where they are too many for a legend, the number of the first run stands at the line's end.
    """
    style = line_style(comparison.recipes.index(recipe), recipe.name)
    if len(lines) > 1:
        for line in lines:
            thin = {**style, "linewidth": 0.6, "label": "_"}
            axes.plot([x for x, _ in line.values()], [y for _, y in line.values()], alpha=0.6, **thin)
    epochs = sorted(set.intersection(*map(set, lines)))
    middle = [tuple(mean(values) for values in zip(*(line[epoch] for line in lines), strict=True)) for epoch in epochs]
    if not middle:  # a run has not been evaluated yet
        axes.plot([], [], **style)
        return
    marker = "." if len(middle) < 40 else ""
    axes.plot([x for x, _ in middle], [y for _, y in middle], marker=marker, markersize=5, **style)
    if num_labels > MAX_LEGEND:
        label_end(axes, middle[-1], str(comparison.runs[recipe.runs[0]].place))


def _draw_published(axes: Axes, curve: PublishedCurve, index: int, num_labels: int) -> None:
    """A grey line for the curve with this index of those of others."""
    label, dashes = literal(short(f"{curve.name}, not ours", MAX_LABEL)), ("-", "--", ":", "-.")[index % 4]
    axes.plot(curve.epochs, curve.top1, color=PUBLISHED, linestyle=dashes, linewidth=1.3, label=label, zorder=1)
    if num_labels > MAX_LEGEND:
        label_end(axes, (curve.epochs[-1], curve.top1[-1]), short(curve.name, _LONGEST_END))
