"""Draws the result of `bench loader` as PNG: works beside rivals, threads, stages of a run, and stages of the path."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deit_fast.record.picture import png

_COLORS = {"deit_fast": "#1f6fb2", "timm": "#d9730d", "ffcv": "#8a8f98", "dali": "#5b9a4b"}
_LABELS = {"deit_fast": "deit_fast", "timm": "timm and DataLoader", "ffcv": "stock FFCV", "dali": "DALI on the CPU"}
_BAR = 0.2  # height of a bar in inches


def bench_png(result: dict[str, Any]) -> bytes:
    """One panel below the other for each measured part, with a height by its number of bars."""
    panels: list[tuple[int, str, Callable[[Axes, Any], None], Any]] = []
    if result["works"]:
        num_bars = sum(len(work["systems"]) + 1 for work in result["works"].values())
        panels.append((num_bars + 2, f"Views per second, {_cores(result['num_cores'])}", _draw_works, result["works"]))
    if result["threads"]:
        num_bars = sum(len(counts) + 1 for counts in result["threads"].values())
        panels.append((num_bars, "Views per second by number of threads", _draw_threads, result["threads"]))
    if result["schedule"]:
        panels.append((len(result["schedule"]), "Views per second of a run's stages", _draw_schedule, result["schedule"]))
    if result["stages"]:
        panels.append((len(result["stages"]), "Milliseconds of one core for a view", _draw_stages, result["stages"]))
    heights = [_BAR * num_bars + 0.5 for num_bars, *_ in panels]
    figure = Figure(figsize=(7.6, sum(heights) + 0.4), dpi=160, layout="constrained")
    grid = figure.add_gridspec(len(panels), 1, height_ratios=heights)
    for row, (_, title, draw, found) in enumerate(panels):
        axes = figure.add_subplot(grid[row])
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.set_xticks([])  # the labels at the bars say it
        axes.tick_params(axis="y", length=0)
        draw(axes, found)
        axes.invert_yaxis()
        axes.margins(x=0.3, y=0.02)
    return png(figure, result["hardware"]["cpu"])


def _cores(count: int) -> str:
    return f"{count} core{'s' * (count != 1)} each"


def _draw_works(axes: Axes, works: dict[str, Any]) -> None:
    """A group of bars for each work, with the range of the rounds; legend by system."""
    y, ticks, named = 0.0, [], set()
    for work in works.values():
        first = y
        for name, system in work["systems"].items():
            label = None if name in named else _LABELS[name]
            named.add(name)
            ratio = work["ratios"].get(name)
            # before the ratio: it is the rival that does less
            text = f"{system['views_per_second']:,.0f}" + (f" without {system['lacks']}" if system["lacks"] else "")
            text += f"   ours {ratio['median']:.2f} times" if ratio else ""
            _bar(axes, y, system, text, _COLORS[name], label)
            y += 1
        ticks.append((first + y - 1) / 2)
        y += 1
    axes.set_yticks(ticks, [work["title"] for work in works.values()])
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=4)


def _draw_threads(axes: Axes, threads: dict[str, Any]) -> None:
    y, names = 0.0, {}
    for kind, counts in threads.items():
        for count, found in counts.items():
            _bar(axes, y, found, f"{found['views_per_second']:,.0f}", _COLORS["deit_fast"], None)
            names[y] = f"{kind}, {count}"
            y += 1
        y += 1
    axes.set_yticks(list(names), list(names.values()))


def _bar(axes: Axes, y: float, found: dict[str, Any], text: str, color: str, label: str | None) -> None:
    """The median as a bar, the range of the rounds as a line across its end."""
    median, rounds = found["views_per_second"], found["rounds"]
    axes.barh(y, median, height=0.8, color=color, label=label)
    axes.hlines(y, min(rounds), max(rounds), color="#1b1f24", linewidth=1)
    axes.annotate(text, (max(rounds), y), (4, 0), textcoords="offset points", va="center", fontsize=8)


def _draw_schedule(axes: Axes, stages: list[dict[str, Any]]) -> None:
    names = [f"{one['stage']}: {one['resolution']} pixels, {Path(one['betons']).name}" for one in stages]
    values = [one["views_per_second"] for one in stages]
    bars = axes.barh(names, values, height=0.8, color=_COLORS["deit_fast"])
    axes.bar_label(bars, [f"{value:,.0f}" for value in values], padding=4, fontsize=8)


def _draw_stages(axes: Axes, stages: dict[str, Any]) -> None:
    values = [found["milliseconds_per_view"] for found in stages.values()]
    bars = axes.barh(list(stages), values, height=0.8, color=_COLORS["deit_fast"])
    axes.bar_label(bars, [f"{value:.3f}" for value in values], padding=4, fontsize=8)
