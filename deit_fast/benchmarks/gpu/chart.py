"""Draws the result of `bench gpu` as PNG: kernels beside the bandwidth, decoders, and runs beside synthetic batches.

`python -m deit_fast.benchmarks.gpu.chart RESULT.json PICTURE.png` draws what was written, also by a bench that was ended early.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from deit_fast.record.picture import png

_BLUE, _GREY, _ORANGE, _GREEN = "#1f6fb2", "#8a8f98", "#d9730d", "#5b9a4b"
_COLORS = {"kernels": _BLUE, "kernels, whole": "#6aa6d6", "nvjpeg of crops": _ORANGE, "nvjpeg": "#e8a86b"}
_COLORS |= {"nvjpeg, whole": "#f0cba8", "cpu": _GREY}
_BAR = 0.2  # height of a bar in inches

_WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 0.5}  # hides the line of a copy

Panel = tuple[int, str, Callable[[Axes, Any], None], Any]  # bars and lines beside them, title, what draws them, from what


def gpu_png(result: dict[str, Any]) -> bytes:
    """A panel for each part that was measured; where none was, a line that says so."""
    results = result["results"]
    panels = [panel for panel in (_kernels(results), _decoders(results), _runs(results)) if panel is not None]
    heights = [_BAR * num_rows + 0.6 for num_rows, *_ in panels]
    figure = Figure(figsize=(9, sum(heights) + 0.4), dpi=160, layout="constrained")
    grid = figure.add_gridspec(max(len(panels), 1), 1, height_ratios=heights or [1])
    for row, (num_rows, title, draw, found) in enumerate(panels):
        axes = figure.add_subplot(grid[row])
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        axes.spines[["top", "right", "bottom"]].set_visible(False)
        axes.set_xticks([])  # the labels at the bars say it
        axes.tick_params(axis="y", length=0, labelsize=8)
        draw(axes, found)
        axes.margins(x=0.45)
        axes.set_ylim(num_rows - 0.4, -0.9)
    gpus = result["hardware"].get("gpus") or [{"name": "no GPU"}]
    return png(figure, gpus[0]["name"] if panels else "nothing was measured")


def _kernels(results: dict[str, Any]) -> Panel | None:
    kernels = results.get("kernels", {}).get("kernels", {})
    rows = {name: row for name, row in kernels.items() if row.get("needs") and not row["needs"]["from_host"]}
    if not rows:
        return None
    copy = results.get("ceilings", {}).get("bytes_per_second")
    views = results["kernels"]["views"]
    return len(rows), f"Kernels of a batch of {views} views: GB/s of what they must move", _draw_kernels, (rows, copy)


def _draw_kernels(axes: Axes, found: tuple[dict[str, Any], float | None]) -> None:
    rows, copy = found
    for y, row in enumerate(rows.values()):
        rate = row["needs"]["bytes"] / row["seconds"] / 1e9
        axes.barh(y, rate, height=0.8, color=_BLUE)
        text = f"{rate:,.0f}   {1e6 * row['seconds']:,.0f} us for {row['needs']['bytes'] / 1e6:,.1f} MB"
        if row["bounds"]:
            kind, bound = max(row["bounds"].items(), key=lambda item: item[1])
            text += f"; at least {1e6 * bound:,.0f}, by {kind}"
        _say(axes, rate, y, text)
    axes.set_yticks(range(len(rows)), list(rows))
    if copy:
        axes.axvline(copy / 1e9, color=_GREEN, linewidth=1)
        text = f"a copy on the device: {copy / 1e9:,.0f}"
        axes.annotate(text, (copy / 1e9, -0.7), (-3, 0), textcoords="offset points", fontsize=8, ha="right", color=_GREEN)


def _decoders(results: dict[str, Any]) -> Panel | None:
    sizes = {found["size"]: found for found in results.values() if "photographs_per_second" in found}
    num_rows = sum(len(found["photographs_per_second"]) + len(found["alone"]) + 1 for found in sizes.values())
    return (num_rows, "Photographs decoded per second", _draw_decoders, sizes) if sizes else None


def _draw_decoders(axes: Axes, sizes: dict[str, Any]) -> None:
    y, names = 0.0, {}
    for size, found in sizes.items():
        names[y] = f"in batches of {size}"
        y += 1
        for name, rate in found["photographs_per_second"].items():
            axes.barh(y, rate["median"], height=0.8, color=_COLORS[name])
            axes.hlines(y, rate["min"], rate["max"], color="#1b1f24", linewidth=1)
            ratios = [
                f"{ratio:.1f} times {kind.partition(' / ')[2]}"
                for kind, ratio in found["ratios"].items()
                if kind.startswith(f"{name} / ")
            ]
            _say(axes, rate["max"], y, "   ".join([f"{rate['median']:,.0f}", *ratios]))
            names[y] = name
            y += 1
        for name, rate in found["alone"].items():
            axes.barh(y, rate, height=0.8, color="white", edgecolor=_COLORS[name])
            _say(axes, rate, y, f"{rate:,.0f} by the time of the device alone")
            names[y] = name
            y += 1
    axes.set_yticks(list(names), list(names.values()))


def _runs(results: dict[str, Any]) -> Panel | None:
    runs = {name.removeprefix("run "): found for name, found in results.items() if "shares" in found}
    num_rows = sum(len(found["images_per_second"]) + 1 for found in runs.values())
    return (num_rows, "Images per second of training", _draw_runs, runs) if runs else None


def _draw_runs(axes: Axes, runs: dict[str, Any]) -> None:
    y, names = 0.0, {}
    for model, found in runs.items():
        names[y] = model
        y += 1
        for kind, rate in found["images_per_second"].items():
            share = found["shares"].get(kind)
            axes.barh(y, rate, height=0.8, color=_BLUE if share else _GREY)
            _say(axes, rate, y, f"{rate:,.0f}" + (f"   {100 * share['median']:.1f} % of synthetic" if share else ""))
            names[y] = kind
            y += 1
    axes.set_yticks(list(names), list(names.values()))


def _say(axes: Axes, x: float, y: float, text: str) -> None:
    """Beside a bar."""
    axes.annotate(text, (x, y), (4, 0), textcoords="offset points", va="center", fontsize=8, bbox=_WHITE)


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_bytes(gpu_png(json.loads(source.read_text())))
