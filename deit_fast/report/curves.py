"""Takes runs, gives figures of their curves: loss, learning rate, accuracy, and where the time went."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deit_fast.record.clock import KINDS
from deit_fast.record.runs import Event, Run, duration, run_numbers
from deit_fast.report.inputs import ReportedRun
from deit_fast.report.render import add_axes, literal, say_if_empty, short

LINES = {"model": ("raw weights", "#1f6fb2"), "ema": ("EMA weights", "#d9730d")}
_MAX_LABEL = 30  # characters, of two legends beside each other
_MAX_LEGEND = 24  # lines; of more, each has its run's number at its end


def curves_figure(run: Run, panels: Sequence[str]) -> Figure:
    """The named panels of PANELS, two in a row, with the run's name where there are several."""
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.1 * rows), dpi=160, layout="constrained")
    for index, panel in enumerate(panels, start=1):
        axes = add_axes(figure, panel, (rows, columns, index))
        PANELS[panel](axes, run)
        say_if_empty(axes, "nothing logged yet")
    if len(panels) > 1:
        figure.suptitle(run.name, parse_math=False)
    return figure


def comparison_figure(runs: Sequence[ReportedRun], panel: str) -> Figure:
    """The named panel of COMPARISONS: a line for each run that has one, in a colour and dashes of its own."""
    has_legend = len(runs) <= _MAX_LEGEND
    columns = 1 if any(len(one.label) > _MAX_LABEL for one in runs) else 2
    height = 3.1 + (0.17 * -(-len(runs) // columns) if has_legend else 0)
    figure = Figure(figsize=(4.6, height), dpi=160, layout="constrained")
    axes = add_axes(figure, panel)
    for index, one in enumerate(runs):
        xs, ys = COMPARISONS[panel](one.run)
        if not xs:
            continue
        dashes = ("-", "--", ":")[index // 10 % 3]
        marker = _marker(xs)
        label = literal(short(one.label, 2 * _MAX_LABEL // columns))
        axes.plot(xs, ys, color=f"C{index % 10}", linestyle=dashes, linewidth=1.1, marker=marker, markersize=4, label=label)
        if not has_legend:
            axes.annotate(str(one.place), (xs[-1], ys[-1]), (2, 0), textcoords="offset points", fontsize=7, va="center")
    if has_legend and axes.has_data():
        figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=columns)
    _finish(axes)
    say_if_empty(axes, "nothing logged yet")
    return figure


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
        axes.plot(
            *_points(_epochs(run.epochs), "loss"), color="#1b1f24", marker=_marker(run.epochs), label="training, mean of epoch"
        )
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
            axes.plot(*_points(evals, field), color=color, marker=_marker(evals), label=prefix + label)
    if axes.has_data():
        axes.legend(frameon=False, fontsize=8)
    _finish(axes)


def _marker(points: Sequence[object]) -> str:
    """Dots where there are so few points that each can be seen."""
    return "." if len(points) < 40 else ""


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
