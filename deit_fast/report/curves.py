"""Figures of runs' curves: loss, learning rate and accuracy against epochs, and where a run's time went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deit_fast.record.clock import KINDS
from deit_fast.record.runs import Run, duration, run_numbers
from deit_fast.report.drawing import INK, MAX_LABEL, MAX_LEGEND, literal, new_figure, short
from deit_fast.report.inputs import ReportedRun

_GREY, _BLUE, _ORANGE = "#9aa4af", "#1f6fb2", "#d9730d"
# panels of one run, and the curves in each: events (see `curve`) and field, name in the legend, and colour
_CURVES = {
    "Loss": (
        ("step", "loss", "training, as logged", _GREY),
        ("epoch", "loss", "training, mean of epoch", INK),
        ("model", "loss", "evaluation, raw weights", _BLUE),
        ("ema", "loss", "evaluation, EMA weights", _ORANGE),
    ),
    "Learning rate": (("finest", "lr", "", INK),),
    "Top-1": (
        ("step", "top1", "training, as logged", _GREY),
        ("model", "top1", "raw weights", _BLUE),
        ("ema", "top1", "EMA weights", _ORANGE),
    ),
}
_TIME, _QUEUE, _LOADER = "Where the time went", "The loader's queue", "The loader's thread"
PANELS = (*_CURVES, _TIME)
_LOADER_PANELS = (_QUEUE, _LOADER)  # of runs whose log has them
# panels that hold a curve of each run: events and field
COMPARISONS = {
    "Training loss": ("epoch", "loss"),
    "Learning rate": ("finest", "lr"),
    "Top-1 / %, raw weights": ("model", "top1"),
    "Top-1 / %, EMA weights": ("ema", "top1"),
}


def panels_of(run: Run) -> tuple[str, ...]:
    """The names of the panels that a run has something for."""
    return PANELS + (_LOADER_PANELS if any(event.get("loader_seconds") for event in run.epochs) else ())


def curves_figure(run: Run, panels: Sequence[str] = ()) -> Figure:
    """The named panels, by default all that the run has, two in a row, with the run's name where there are several."""
    panels = panels or panels_of(run)
    figure, several = new_figure(3.1 * -(-len(panels) // 2), *panels)
    for axes, panel in zip(several, panels, strict=True):
        if panel == _TIME:
            seconds = run_numbers(run)["seconds"]
            _draw_seconds(axes, {kind.replace("_", " "): seconds[kind] for kind in KINDS})
        elif panel == _LOADER:
            _draw_seconds(axes, run_numbers(run)["loader_seconds"])
        elif panel == _QUEUE:
            _draw_queue(axes, run)
        else:
            _draw_curves(axes, run, panel)
        _say_if_empty(axes)
    if len(panels) > 1:
        figure.suptitle(literal(run.name))
    return figure


def comparison_figure(runs: Sequence[ReportedRun], panel: str) -> Figure:
    """The named panel of COMPARISONS: a line for each run that has one, in a colour and dashes of its own."""
    has_legend = len(runs) <= MAX_LEGEND
    columns = 1 if any(len(one.label) > MAX_LABEL // 2 for one in runs) else 2
    figure, (axes,) = new_figure(3.1 + (0.17 * -(-len(runs) // columns) if has_legend else 0), panel)
    for index, one in enumerate(runs):
        xs, ys = curve(one.run, *COMPARISONS[panel])
        if not xs:
            continue
        dashes, label = ("-", "--", ":")[index // 10 % 3], literal(short(one.label, MAX_LABEL // columns))
        marker, color = _marker(xs), f"C{index % 10}"
        axes.plot(xs, ys, color=color, linestyle=dashes, marker=marker, linewidth=1.1, markersize=4, label=label)
        if not has_legend:
            axes.annotate(str(one.place), (xs[-1], ys[-1]), (2, 0), textcoords="offset points", fontsize=7, va="center")
    if has_legend and axes.has_data():
        figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=columns)
    axes.set_xlabel("epochs")
    axes.grid(alpha=0.25)
    _say_if_empty(axes)
    return figure


def curve(run: Run, sort: str, field: str) -> tuple[list[float], list[float]]:
    """Numbers of epochs done and values of a field of events, where it is a number.

    sort: "step" or "epoch" for those of training, "finest" for steps where there are any, else epochs; "model" or "ema" for
    evaluations of these weights.
    """
    if sort == "step" or (sort == "finest" and run.steps):
        steps_per_epoch = run.start.get("steps_per_epoch") or 1
        points = [(event["step"] / steps_per_epoch, event.get(field)) for event in run.steps]
    else:
        events = run.epochs if sort in ("epoch", "finest") else [event for event in run.evals if event["weights"] == sort]
        points = [(event["epoch"] + 1, event.get(field)) for event in events]
    known = [(x, y) for x, y in points if y is not None]
    return [x for x, _ in known], [y for _, y in known]


def _draw_curves(axes: Axes, run: Run, panel: str) -> None:
    for sort, field, label, color in _CURVES[panel]:
        xs, ys = curve(run, sort, field)
        marker = "" if sort in ("step", "finest") else _marker(xs)
        if xs:
            axes.plot(xs, ys, color=color, marker=marker, linewidth=0.9 if sort == "step" else None, label=label)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=8)
    if panel == "Top-1":
        axes.set_ylabel("top-1 / %")
    if panel == "Learning rate":
        axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axes.set_xlabel("epochs")
    axes.grid(alpha=0.25)


def _draw_queue(axes: Axes, run: Run) -> None:
    for name, label, color in (("filled", "mean share full", _BLUE), ("empty", "steps at which it was empty", _ORANGE)):
        points = [(event["epoch"] + 1, (event.get("queue") or {}).get(name)) for event in run.epochs]
        known = [(x, 100 * y) for x, y in points if y is not None]
        axes.plot([x for x, _ in known], [y for _, y in known], color=color, marker=_marker(known), label=label)
    axes.set_ylim(-3, 103)
    axes.set_ylabel("%")
    axes.set_xlabel("epochs")
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=8)


def _draw_seconds(axes: Axes, seconds: Mapping[str, float]) -> None:
    total = sum(seconds.values())
    if not total:
        return
    bars = axes.barh(list(seconds), list(seconds.values()), color=_BLUE)
    axes.bar_label(bars, [f"{duration(s)}, {100 * s / total:.0f} %" for s in seconds.values()], padding=3, fontsize=9)
    axes.invert_yaxis()
    axes.set_xticks([])  # the labels say it, in units that fit
    axes.spines["bottom"].set_visible(False)
    axes.margins(x=0.45)


def _marker(points: Sequence[Any]) -> str:
    """Dots where there are so few points that each can be seen."""
    return "." if len(points) < 40 else ""


def _say_if_empty(axes: Axes) -> None:
    if not axes.has_data():
        axes.text(0.5, 0.5, "nothing to draw yet", ha="center", va="center", transform=axes.transAxes, color="gray")
