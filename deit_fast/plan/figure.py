"""Draws the result of a plan as PNG: each stage against what the model needs, and where the time goes."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deit_fast.record.picture import png

_STAGES = {"loader": "loader alone", "model": "model alone", "both": "training, end to end"}
_COLORS = {
    "setup": "#8a8f98", "compile": "#b58900", "data_wait": "#d9730d", "compute": "#1f6fb2", "evaluation": "#5b9a4b",
    "checkpoint": "#8e5ea2", "other": "#c9ced6",
}  # fmt: skip


def plan_png(result: dict[str, Any]) -> bytes:
    """Top: seconds of a step for loader, model and both, with a line at the model's need. Bottom: the run by kind of time."""
    figure = Figure(figsize=(7.6, 3.4), dpi=160, layout="constrained")
    stages, whole = figure.subplots(2, 1, height_ratios=[3, 1.6])
    _draw_stages(stages, result["step_seconds"])
    _draw_whole(whole, result["prediction"]["seconds"])
    return png(figure, result["machine"])


def _draw_stages(axes: Axes, seconds: dict[str, float]) -> None:
    axes.set_title("Milliseconds for a step", loc="left", fontsize=11, fontweight="bold")
    values = [1e3 * seconds[name] for name in _STAGES]
    bars = axes.barh(list(_STAGES.values()), values, color=["#d9730d", "#1f6fb2", "#33373d"], height=0.6)
    axes.axvline(1e3 * seconds["model"], color="#1f6fb2", linewidth=1, linestyle="--", zorder=0)
    axes.bar_label(bars, [f"{value:,.3g}" if value < 100 else f"{value:,.0f}" for value in values], padding=4, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15 * max(values))
    axes.spines[["top", "right", "bottom"]].set_visible(False)
    axes.set_xticks([])
    axes.tick_params(axis="y", length=0)


def _draw_whole(axes: Axes, seconds: dict[str, float]) -> None:
    axes.set_title("The run", loc="left", fontsize=11, fontweight="bold")
    total, left = sum(seconds.values()), 0.0
    for kind, value in seconds.items():
        if value > 0:
            label = f"{kind.replace('_', ' ')} {value / total:.1%}"
            axes.barh([0], [value], left=left, color=_COLORS[kind], height=0.5, label=label)
        left += value
    axes.set_axis_off()
    axes.set_xlim(0, total)
    axes.set_ylim(-0.25, 0.25)
    axes.legend(loc="upper left", bbox_to_anchor=(0, 0), ncols=4, fontsize=8, frameon=False, handlelength=1)
