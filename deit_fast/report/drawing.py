"""What the figures of the page share: how they begin, get labels, and become SVG or PNG."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from deit_fast.record.picture import png

PUBLISHED, INK = "#8a8f98", "#1b1f24"
MAX_LABEL = 60  # characters of a legend with one column; of more, each column has its share
MAX_LEGEND = 24  # lines; of more, each has a number at its end
_WIDTH = 4.6  # inches of a figure: as many as a phone shows at the size of its text
_LARGE = 60_000  # bytes of an SVG, of thousands of points
# where a label may stand: offset in points from its point, and which of its edges is there
_PLACES = (
    *((5, 0, "left", "center"), (-5, 0, "right", "center"), (0, 5, "center", "bottom"), (0, -5, "center", "top")),
    *((4, 4, "left", "bottom"), (-4, 4, "right", "bottom"), (4, -4, "left", "top"), (-4, -4, "right", "top")),
    *((0, 13, "center", "bottom"), (0, -13, "center", "top"), (13, 9, "left", "bottom"), (-13, -9, "right", "top")),
)


@dataclass(frozen=True)
class Drawing:
    """A figure of the page: name of its file without suffix, what it shows, and how to read it."""

    name: str
    title: str
    figure: Figure
    caption: str = ""

    @property
    def data_uri(self) -> str:
        """The figure as an address that holds its content: SVG, or PNG where that is much smaller."""
        buffer = io.BytesIO()
        # text stays text, so that the file is small; the same bytes whenever it is drawn
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "deit_fast", "path.simplify": True}):
            self.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        kind, content = "svg+xml", buffer.getvalue()
        if len(content) > _LARGE:
            kind, content = min((kind, content), ("png", png(self.figure)), key=lambda one: len(one[1]))
        return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def new_figure(height: float, *titles: str) -> tuple[Figure, list[Axes]]:
    """A figure with axes for each title, two in a row. height: in inches."""
    columns = min(2, len(titles))
    figure = Figure(figsize=(_WIDTH * columns, height), dpi=160, layout="constrained")
    several = [figure.add_subplot(-(-len(titles) // columns), columns, place) for place in range(1, len(titles) + 1)]
    for axes, title in zip(several, titles, strict=True):
        axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=9)
    return figure, several


def literal(words: str) -> str:
    """Text that matplotlib shows as it is, without mathematics in it, and that SVG can hold."""
    return "".join(letter if letter.isprintable() else " " for letter in words).replace("$", r"\$")


def short(words: str, length: int) -> str:
    """At most so many characters; what is left out of the middle is shown by dots."""
    if len(words) <= length:
        return words
    head = (length - 1) // 2
    return f"{words[:head]}…{words[len(words) - (length - 1 - head) :]}"


def lines_figure(title: str, names: Sequence[str]) -> tuple[Figure, Axes]:
    """A figure for lines with these names, with room for their legend below."""
    lines = -(-len(names) // _legend_columns(names)) if len(names) <= MAX_LEGEND else 0
    figure, (axes,) = new_figure(3.1 + 0.17 * lines, title)
    return figure, axes


def line_style(index: int, name: str) -> dict[str, Any]:
    """Colour, dashes and label of one of several lines."""
    label = literal(short(name, MAX_LABEL))
    return {"color": f"C{index % 10}", "linestyle": ("-", "--", ":")[index // 10 % 3], "linewidth": 1.3, "label": label}


def finish_lines(figure: Figure, axes: Axes, names: Sequence[str]) -> None:
    """A grid, and the legend, where the lines are not too many for one."""
    if len(names) <= MAX_LEGEND:
        figure.legend(frameon=False, fontsize=8, loc="outside lower center", ncols=_legend_columns(names))
    axes.grid(alpha=0.25)


def label_end(axes: Axes, end: tuple[float, ...], words: str) -> None:
    """Writes at the end of a line, x and y, what it is called where the lines are too many for a legend."""
    axes.annotate(literal(words), (end[0], end[1]), (3, 0), textcoords="offset points", fontsize=7, va="center")


def time_unit(seconds: float) -> tuple[str, float]:
    """The unit in which an axis shows times up to that, and its seconds."""
    return ("hours", 3600.0) if seconds >= 7200 else ("minutes", 60.0) if seconds >= 120 else ("seconds", 1.0)


def _legend_columns(names: Sequence[str]) -> int:
    return 1 if any(len(name) > MAX_LABEL // 2 for name in names) else 2


def place_labels(
    axes: Axes, labels: Sequence[tuple[tuple[float, float], str, str]], corners: Sequence[tuple[float, float]]
) -> int:
    """Writes labels, in their order, where they cover nothing else; returns the number of those that found no place.

    labels: a point, its text and colour. corners: those of a line of horizontal and vertical pieces, which no label may
    cover. The axes must have their final limits: nothing may be drawn afterwards that changes them.
    """
    renderer = FigureCanvasAgg(axes.figure).get_renderer()
    axes.figure.draw_without_rendering()  # type: ignore[union-attr]  # fixes the layout
    whole = axes.figure.bbox
    area = Bbox.from_extents(axes.bbox.x0, axes.bbox.y0, whole.x1, axes.bbox.y1)  # there is room at the right
    pixels = axes.transData.transform([point for point, _, _ in labels])
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in pixels]
    ends: Any = axes.transData.transform(corners) if len(corners) else []
    pieces = pairwise(ends)
    line = [Bbox.from_extents(*np.minimum(one, other) - 1, *np.maximum(one, other) + 1) for one, other in pieces]
    num_lost = 0
    for place, (point, text, color) in enumerate(labels):
        others = [box for index, box in enumerate(taken) if index != place] + line
        for x, y, horizontal, vertical in _PLACES:
            label = axes.annotate(
                text, point, (x, y), textcoords="offset points", ha=horizontal, va=vertical, fontsize=8, color=color,
                annotation_clip=False,
            )  # fmt: skip
            label.set_in_layout(False)
            box = label.get_window_extent(renderer)
            is_inside = all(map(area.containsx, (box.x0, box.x1))) and all(map(area.containsy, (box.y0, box.y1)))
            if is_inside and not any(box.overlaps(other) for other in others):
                taken.append(box)
                break
            label.remove()
        else:
            num_lost += 1
    return num_lost
