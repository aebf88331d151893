"""Takes what was read, gives figures that compare runs: what accuracy costs, where time went, predicted against actual."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from deit_fast.record.clock import KINDS
from deit_fast.record.runs import duration
from deit_fast.report.inputs import Inputs, ReportedRun
from deit_fast.report.labels import place_labels
from deit_fast.report.pareto import pareto_front
from deit_fast.report.published import PublishedFigure
from deit_fast.report.render import INK, PUBLISHED, WIDTH, Drawing, add_axes, literal, short

_COLORS = dict(zip(KINDS, ("#b8bec6", "#8e6bb3", "#c23b3b", "#1f6fb2", "#5b9a4b", "#d9a40d", "#5a626b"), strict=True))
_WIDE_RANGE = 15  # from this ratio of largest to smallest on, an axis is logarithmic


@dataclass(frozen=True)
class Point:
    """A point of accuracy against something. Of the published, or with a published accuracy, it is no part of the front."""

    x: float
    top1: float
    label: str
    group: str  # its name in the legend
    is_published: bool = False


def price_figures(inputs: Inputs, published: Sequence[PublishedFigure]) -> list[Drawing]:
    """Accuracy against inference throughput, speed of training, dollars and hours, as far as they are known."""
    finished = [one for one in inputs.runs if one.numbers["finished"] and one.numbers["top1"] is not None]
    drawings = []
    inference = inference_points(inputs, published)
    if inference:
        drawing = _scatter("accuracy-inference", "Accuracy and inference", "images/s, inference", inference, False)
        caption = f"{drawing.caption} A model's speed, at its fastest batch, stands with the best run of that name."
        drawings.append(replace(drawing, caption=caption))
    trained = _points_of(finished, "images_per_second")
    if trained:
        drawings.append(_scatter("accuracy-training", "Accuracy and speed of training", "images/s, training", trained, False))
    paid = _points_of(finished, "dollars")
    if paid:
        drawings.append(_scatter("accuracy-dollars", "Accuracy and money", "dollars", paid, True))
    timed = _points_of(finished, "wall_seconds", 3600)
    timed += [Point(one.hours, one.top1, one.name, "published", True) for one in published if one.hours is not None]
    if timed and (len(paid) < len(finished) or any(point.is_published for point in timed) or not paid):
        is_short = max(point.x for point in timed) < 0.5
        timed = [Point(p.x * 60, p.top1, p.label, p.group, p.is_published) for p in timed] if is_short else timed
        unit = "minutes, wall clock" if is_short else "hours, wall clock, each on its machine"
        drawings.append(_scatter("accuracy-hours", "Accuracy and time", unit, timed, True))
    return drawings


def _points_of(runs: Sequence[ReportedRun], field: str, unit: float = 1) -> list[Point]:
    return [
        Point(one.numbers[field] / unit, one.numbers["top1"], str(one.place), str(one.numbers["model"]))
        for one in runs
        if one.numbers[field]
    ]


def inference_points(inputs: Inputs, published: Sequence[PublishedFigure]) -> list[Point]:
    """Inference throughput of each model and precision, at its fastest batch size, with the best top-1 of a run of it.

    A model that no run trained has its published top-1, where there is one, and counts as published.
    """
    fastest: dict[tuple[str, str], float] = {}
    for row in (row for bench in inputs.benches for row in bench.rows):
        rate = (row.get("images_per_second") or {}).get("median")
        if rate:
            key = row["model"], row["precision"]
            fastest[key] = max(rate, fastest.get(key, 0.0))
    points = []
    for (model, precision), rate in fastest.items():
        runs = [one for one in inputs.runs if one.numbers["model"] == model and one.numbers["top1"] is not None]
        best = max(runs, key=lambda one: one.numbers["top1"], default=None)
        other = next((one for one in published if one.model == model), None)
        if best is not None:
            points.append(Point(rate, best.numbers["top1"], str(best.place), f"run, {precision} here"))
        elif other is not None:
            points.append(Point(rate, other.top1, other.name, f"published top-1, {precision} here", True))
    speeds = [one for one in published if one.images_per_second is not None]
    return points + [Point(one.images_per_second or 0, one.top1, one.name, "published", True) for one in speeds]


def _scatter(name: str, title: str, unit: str, points: Sequence[Point], is_cost: bool) -> Drawing:
    """Points with labels, the Pareto front of ours through them; published ones are hollow and grey."""
    groups = list(dict.fromkeys(point.group for point in sorted(points, key=lambda p: p.is_published)))
    figure = Figure(figsize=(WIDTH, 3.5 + 0.17 * len(groups[:8])), dpi=160, layout="constrained")
    axes = add_axes(figure, title)
    ours = [point for point in points if not point.is_published]
    front = [ours[place] for place in pareto_front([(point.x, point.top1) for point in ours], is_cost)]
    for index, group in enumerate(groups):
        own = [point for point in points if point.group == group]
        is_ours = not own[0].is_published
        color = f"C{index % 10}" if is_ours else PUBLISHED
        marker = "o" if is_ours else "s" if group == "published" else "D^v<>"[index % 5]
        face = color if is_ours else "none"
        xs, ys = [point.x for point in own], [point.top1 for point in own]
        axes.scatter(xs, ys, 26, marker=marker, facecolors=face, edgecolors=color, label=literal(short(group, 40)), zorder=3)
    corners = _steps(front, is_cost)
    if corners:
        xs, ys = [x for x, _ in corners], [y for _, y in corners]
        axes.plot(xs, ys, color=INK, linewidth=1, label="Pareto front of ours", zorder=2)
    low, high = min(point.x for point in points), max(point.x for point in points)
    if low > 0 and high / low > _WIDE_RANGE:
        axes.set_xscale("log")
    axes.set_xlabel(unit, fontsize=9)
    axes.set_ylabel("top-1 / %", fontsize=9)
    axes.grid(alpha=0.25)
    axes.margins(0.12)
    limits = axes.get_ylim()
    axes.set_yticks([tick for tick in axes.get_yticks() if limits[0] <= tick <= min(100.0, limits[1])])
    axes.set_ylim(limits)  # above 100 there is room for labels, but no tick
    figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=1 if max(map(len, groups)) > 24 else 2)
    # of labels that would cover each other the front's stay, then ours
    ordered = sorted(points, key=lambda point: (point not in front, point.is_published))
    places = [(point.x, point.top1) for point in ordered]
    colors = [PUBLISHED if point.is_published else INK for point in ordered]
    num_lost = place_labels(axes, places, [literal(point.label) for point in ordered], colors, corners)
    caption = "Numbers are those of the runs. The line is the Pareto front: no other run is better in both."
    if any(point.is_published for point in points):
        caption += " Hollow and grey: published by others, of ImageNet-1k."
    return Drawing(name, title, figure, caption + (f" Without label: {num_lost}." if num_lost else ""))


def _steps(front: Sequence[Point], is_cost: bool) -> list[tuple[float, float]]:
    """Corners of the line through a front: for each x the best accuracy that is to be had there."""
    corners: list[tuple[float, float]] = []
    for one, other in pairwise(front):
        corners += [(one.x, one.top1), (other.x, one.top1) if is_cost else (one.x, other.top1), (other.x, other.top1)]
    return corners


def time_figure(runs: Sequence[ReportedRun]) -> Drawing:
    """Shares of the wall-clock time by kind, a bar for each run, with its length beside it."""
    figure, axes = _bars("Where the time went", len(runs))
    for place, one in enumerate(runs):
        total = sum(one.numbers["seconds"].values())
        left = 0.0
        for kind in KINDS if total else ():
            share = 100 * one.numbers["seconds"][kind] / total
            axes.barh(place, share, left=left, height=0.75, color=_COLORS[kind])
            left += share
        axes.annotate(duration(total), (100, place), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the wall-clock time")
    _finish_bars(figure, axes, [short(one.label, 24) for one in runs])
    return Drawing("time", "Where the time went", figure)


def prediction_figure(runs: Sequence[ReportedRun]) -> Drawing | None:
    """Predicted above actual time by kind for each run that was predicted, in percent of the predicted."""
    predicted = [one for one in runs if one.numbers["predicted_seconds"]]
    if not predicted:
        return None
    figure, axes = _bars("Predicted (above) and actual time", 2 * len(predicted))
    for place, one in enumerate(predicted):
        prediction, whole = one.numbers["prediction"], one.numbers["predicted_seconds"]
        for y, seconds in ((place - 0.2, prediction["seconds"]), (place + 0.2, one.numbers["seconds"])):
            left = 0.0
            for kind in KINDS:
                share = 100 * (seconds.get(kind) or 0.0) / whole
                axes.barh(y, share, left=left, height=0.36, color=_COLORS[kind])
                left += share
        low, high = (100 * (prediction.get(name) or whole) / whole for name in ("low", "high"))
        axes.plot([low, high], [place - 0.2] * 2, color=INK, linewidth=1.2, marker="|", markersize=6)
        if one.numbers["off"] is not None:
            end = max(100 * (1 + one.numbers["off"]), high)
            words = f"{100 * one.numbers['off']:+.1f} %"
            axes.annotate(words, (end, place + 0.2), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.margins(x=0.15)
    axes.set_xlabel("% of the predicted time; the line is its interval")
    _finish_bars(figure, axes, [short(one.label, 24) for one in predicted])
    caption = "How far the actual time was off stands beside it."
    if len(predicted) > 1:
        offs = [abs(one.numbers["off"]) for one in predicted if one.numbers["off"] is not None]
        caption += f" Median of {len(offs)}: {100 * median(offs):.1f} %." if offs else ""
    return Drawing("prediction", "Predicted and actual time", figure, caption)


def _bars(title: str, num_bars: int) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH, 1.6 + 0.22 * num_bars), dpi=160, layout="constrained")
    return figure, add_axes(figure, title)


def _finish_bars(figure: Figure, axes: Axes, names: Sequence[str]) -> None:
    axes.set_yticks(range(len(names)), [literal(name) for name in names], fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    patches = [Patch(color=color, label=kind.replace("_", " ")) for kind, color in _COLORS.items()]
    figure.legend(handles=patches, frameon=False, fontsize=8, loc="outside lower center", ncols=4, handlelength=1.2)
