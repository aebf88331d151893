"""Figures that compare runs: what accuracy costs, where time went, and predicted against actual time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from deit_fast.record.clock import KINDS
from deit_fast.record.runs import duration
from deit_fast.report.drawing import INK, PUBLISHED, Drawing, literal, new_figure, place_labels, short
from deit_fast.report.inputs import Inputs, ReportedRun
from deit_fast.report.published import PublishedFigure
from deit_fast.report.tables import difference

_COLORS = dict(zip(KINDS, ("#b8bec6", "#8e6bb3", "#c23b3b", "#1f6fb2", "#5b9a4b", "#d9a40d", "#5a626b"), strict=True))
_WIDE_RANGE = 15  # from this ratio of largest to smallest on, an axis is logarithmic


@dataclass(frozen=True)
class Point:
    """A point of a figure of accuracy. One with a published accuracy is never part of the Pareto front."""

    x: float
    top1: float
    label: str
    group: str  # its name in the legend
    is_published: bool = False


def price_figures(inputs: Inputs, published: Sequence[PublishedFigure]) -> list[Drawing | None]:
    """Accuracy against inference throughput, speed of training, dollars and hours, as far as they are known."""
    finished = [one for one in inputs.runs if one.numbers["finished"] and one.numbers["top1"] is not None]
    trained, paid, timed = (
        [
            Point(one.numbers[field], one.numbers["top1"], str(one.place), str(one.numbers["model"]))
            for one in finished
            if one.numbers[field]
        ]
        for field in ("images_per_second", "dollars", "wall_seconds")
    )
    others = [Point(3600 * one.hours, one.top1, one.name, "published", True) for one in published if one.hours is not None]
    if len(paid) == len(finished) and not others:  # dollars say it already
        timed = []
    is_short = max((point.x for point in timed + others), default=0) < 1800
    unit = "minutes, wall clock" if is_short else "hours, wall clock, each on its machine"
    timed = [replace(point, x=point.x / (60 if is_short else 3600)) for point in timed + others]
    measured = inference_points(inputs, published)
    join = " A model's speed, at its fastest batch, stands with the best run of that name."
    return [
        _scatter("inference", "Accuracy and inference", "images/s, inference", measured, False, join),
        _scatter("training", "Accuracy and speed of training", "images/s, training", trained, False),
        _scatter("dollars", "Accuracy and money", "dollars", paid, True),
        _scatter("hours", "Accuracy and time", unit, timed, True),
    ]


def inference_points(inputs: Inputs, published: Sequence[PublishedFigure]) -> list[Point]:
    """Inference throughput of each model and precision, at its fastest batch size, with the best top-1 of a run of it.

    A model that no run trained has its published top-1, where there is one, and counts as published.
    """
    fastest: dict[tuple[str, str], float] = {}
    for row in inputs.inference:
        key, rate = (row["model"], row["precision"]), (row.get("images_per_second") or {}).get("median")
        if rate:
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
    speeds = [(one, one.images_per_second) for one in published if one.images_per_second is not None]
    return points + [Point(speed, one.top1, one.name, "published", True) for one, speed in speeds]


def _scatter(name: str, title: str, unit: str, points: Sequence[Point], is_cost: bool, remark: str = "") -> Drawing | None:
    """Labelled points with the Pareto front of ours; published ones are hollow and grey. None if there are no points."""
    if not points:
        return None
    groups = list(dict.fromkeys(point.group for point in sorted(points, key=lambda p: p.is_published)))
    figure, (axes,) = new_figure(3.5 + 0.17 * len(groups[:8]), title)
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
    # for each x the best accuracy that is to be had there
    corners = [(one.x, one.top1) for one in front[:1]]
    for one, other in pairwise(front):
        corners += [(other.x, one.top1) if is_cost else (one.x, other.top1), (other.x, other.top1)]
    if len(corners) > 1:
        axes.plot(*zip(*corners, strict=True), color=INK, linewidth=1, label="Pareto front of ours", zorder=2)
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
    labels = [((p.x, p.top1), literal(p.label), PUBLISHED if p.is_published else INK) for p in ordered]
    num_lost = place_labels(axes, labels, corners)
    caption = "Numbers are those of the runs. The line is the Pareto front: no other run is better in both."
    if any(point.is_published for point in points):
        caption += " Hollow and grey: published by others, of ImageNet-1k."
    caption += f" Without label: {num_lost}." if num_lost else ""
    return Drawing(f"accuracy-{name}", title, figure, caption + remark)


def pareto_front(points: Sequence[tuple[float, float]], is_cost: bool) -> list[int]:
    """Places in `points` of the Pareto front, by rising x.

    points: (x, accuracy). More accuracy is better; of x less is better where it `is_cost`, else more. Of equal points the
    first counts; a point that is only as good as another in one thing and worse in the other is not on the front.
    """
    sign = 1 if is_cost else -1
    order = sorted(range(len(points)), key=lambda place: (sign * points[place][0], -points[place][1], place))
    front: list[int] = []
    for place in order:  # from the best x on: each step to a worse one must gain accuracy
        if not front or points[place][1] > points[front[-1]][1]:
            front.append(place)
    return front if is_cost else front[::-1]


def time_figure(runs: Sequence[ReportedRun]) -> Drawing:
    """Shares of the wall-clock time by kind, a bar for each run, with its length beside it."""
    title = "Where the time went"
    figure, (axes,) = new_figure(1.6 + 0.22 * len(runs), title)
    for place, one in enumerate(runs):
        total = sum(one.numbers["seconds"].values())
        if total:
            _stack(axes, place, one.numbers["seconds"], total, 0.75)
        axes.annotate(duration(total), (100, place), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xlim(0, 100)
    axes.set_xlabel("% of the wall-clock time")
    _finish_bars(figure, axes, runs)
    return Drawing("time", title, figure)


def prediction_figure(runs: Sequence[ReportedRun]) -> Drawing | None:
    """Predicted above actual time by kind for each run that was predicted, in percent of the predicted."""
    predicted = [one for one in runs if one.numbers["predicted_seconds"]]
    if not predicted:
        return None
    figure, (axes,) = new_figure(1.6 + 0.44 * len(predicted), "Predicted (above) and actual time")
    for place, one in enumerate(predicted):
        prediction, whole, off = (one.numbers[name] for name in ("prediction", "predicted_seconds", "off"))
        _stack(axes, place - 0.2, prediction["seconds"], whole, 0.36)
        _stack(axes, place + 0.2, one.numbers["seconds"], whole, 0.36)
        low, high = (100 * (prediction.get(name) or whole) / whole for name in ("low", "high"))
        axes.plot([low, high], [place - 0.2] * 2, color=INK, linewidth=1.2, marker="|", markersize=6)
        if off is not None:
            end = max(100 * (1 + off), high), place + 0.2
            axes.annotate(difference(off), end, (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.margins(x=0.15)
    axes.set_xlabel("% of the predicted time; the line is its interval")
    _finish_bars(figure, axes, predicted)
    offs = [abs(one.numbers["off"]) for one in predicted if one.numbers["off"] is not None]
    caption = "How far the actual time was off stands beside it."
    if len(predicted) > 1 and offs:
        caption += f" Median of {len(offs)}: {100 * median(offs):.1f} %."
    return Drawing("prediction", "Predicted and actual time", figure, caption)


def _stack(axes: Axes, y: float, seconds: Mapping[str, float | None], whole: float, height: float) -> None:
    """A bar of the seconds of each kind, in percent of the whole."""
    left = 0.0
    for kind in KINDS:
        share = 100 * (seconds.get(kind) or 0.0) / whole
        axes.barh(y, share, left=left, height=height, color=_COLORS[kind])
        left += share


def _finish_bars(figure: Figure, axes: Axes, runs: Sequence[ReportedRun]) -> None:
    axes.set_yticks(range(len(runs)), [literal(short(one.label, 24)) for one in runs], fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
    patches = [Patch(color=color, label=kind.replace("_", " ")) for kind, color in _COLORS.items()]
    figure.legend(handles=patches, frameon=False, fontsize=8, loc="outside lower center", ncols=4, handlelength=1.2)
