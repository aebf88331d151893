"""Takes runs, gives their curves as PNG: loss, learning rate, accuracy, and where the time went."""

from __future__ import annotations

import io
from collections.abc import Callable

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deit_fast.record.clock import KINDS
from deit_fast.study.runs import Event, Run, duration, run_numbers

LINES = {"model": ("raw weights", "#1f6fb2"), "ema": ("EMA weights", "#d9730d")}


def curves_png(run: Run, panels: list[str]) -> bytes:
    """The named panels of PANELS as one PNG, two in a row, with the run's name where there are several."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.1 * rows), dpi=160, layout="constrained")
    for index, panel in enumerate(panels, start=1):
        axes = _axes(figure, (rows, columns, index), panel)
        PANELS[panel](axes, run)
        _say_if_empty(axes)
    if len(panels) > 1:
        figure.suptitle(run.name, parse_math=False)
    return _png(figure)


def comparison_png(runs: list[Run], panel: str) -> bytes:
    """The named panel of COMPARISONS as a PNG: a line for each run that has one, in a colour of its own."""
    figure = Figure(figsize=(4.6, 3.1), dpi=160, layout="constrained")
    axes = _axes(figure, (1, 1, 1), panel)
    for index, run in enumerate(runs):
        xs, ys = COMPARISONS[panel](run)
        if xs:
            label = run.name.replace("$", r"\$")
            axes.plot(xs, ys, color=f"C{index % 10}", linewidth=1.1, marker="." if len(xs) < 40 else "", label=label)
    if axes.has_data():
        axes.legend(frameon=False, fontsize=8)
    _finish(axes)
    _say_if_empty(axes)
    return _png(figure)


def _axes(figure: Figure, place: tuple[int, int, int], title: str) -> Axes:
    axes = figure.add_subplot(*place)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def _say_if_empty(axes: Axes) -> None:
    if not axes.has_data():
        axes.text(0.5, 0.5, "nothing logged yet", ha="center", va="center", transform=axes.transAxes, color="gray")


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _points(events: list[Event], field: str) -> tuple[list[float], list[float]]:
    """Numbers of epochs done and values of the field, where it is a number."""
    points = [(e["epochs_done"], e[field]) for e in events if e.get(field) is not None]
    return [x for x, _ in points], [y for _, y in points]


def _steps(run: Run) -> list[Event]:
    steps_per_epoch = run.start.get("steps_per_epoch") or 1
    return [{**e, "epochs_done": e["step"] / steps_per_epoch} for e in run.steps]


def _epochs(events: list[Event]) -> list[Event]:
    return [{**e, "epochs_done": e["epoch"] + 1} for e in events]


def _draw_loss(axes: Axes, run: Run) -> None:
    if run.steps:
        axes.plot(*_points(_steps(run), "loss"), color="#9aa4af", linewidth=0.9, label="training, as logged")
    if run.epochs:
        axes.plot(*_points(_epochs(run.epochs), "loss"), color="#1b1f24", marker=".", label="training, mean of epoch")
    _draw_weights(axes, run, "loss", "evaluation, ")


def _draw_top1(axes: Axes, run: Run) -> None:
    if any(e.get("top1") is not None for e in run.steps):
        axes.plot(*_points(_steps(run), "top1"), color="#9aa4af", linewidth=0.9, label="training, as logged")
    _draw_weights(axes, run, "top1", "")
    axes.set_ylabel("top-1 / %")


def _draw_weights(axes: Axes, run: Run, field: str, prefix: str) -> None:
    for weights, (label, color) in LINES.items():
        evals = _epochs([e for e in run.evals if e["weights"] == weights])
        if evals:
            axes.plot(*_points(evals, field), color=color, marker=".", label=prefix + label)
    if axes.has_data():
        axes.legend(frameon=False, fontsize=8)
    _finish(axes)


def _draw_lr(axes: Axes, run: Run) -> None:
    if run.steps or run.epochs:
        axes.plot(*_lr(run), color="#1b1f24")
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    _finish(axes)


def _finish(axes: Axes) -> None:
    axes.set_xlabel("epochs")
    axes.grid(alpha=0.25)


def _lr(run: Run) -> tuple[list[float], list[float]]:
    return _points(_steps(run) or _epochs(run.epochs), "lr")


def _top1(run: Run, weights: str) -> tuple[list[float], list[float]]:
    return _points(_epochs([e for e in run.evals if e["weights"] == weights]), "top1")


def _draw_time(axes: Axes, run: Run) -> None:
    seconds = run_numbers(run)["seconds"]
    total = sum(seconds.values())
    if not total:
        return
    bars = axes.barh([kind.replace("_", " ") for kind in KINDS], [seconds[kind] for kind in KINDS], color="#1f6fb2")
    axes.bar_label(bars, [f"{duration(s)}, {100 * s / total:.0f} %" for s in seconds.values()], padding=3, fontsize=9)
    axes.invert_yaxis()
    axes.set_xticks([])  # the labels say it, in units that fit
    axes.spines["bottom"].set_visible(False)
    axes.margins(x=0.45)


PANELS: dict[str, Callable[[Axes, Run], None]] = {
    "Loss": _draw_loss,
    "Learning rate": _draw_lr,
    "Top-1": _draw_top1,
    "Where the time went": _draw_time,
}

COMPARISONS: dict[str, Callable[[Run], tuple[list[float], list[float]]]] = {
    "Training loss": lambda run: _points(_epochs(run.epochs), "loss"),
    "Learning rate": _lr,
    "Top-1 / %, raw weights": lambda run: _top1(run, "model"),
    "Top-1 / %, EMA weights": lambda run: _top1(run, "ema"),
}
