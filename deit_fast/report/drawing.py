"""Figures of the page: how they begin, and how they become SVG or PNG."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PUBLISHED, INK = "#8a8f98", "#1b1f24"
_WIDTH = 4.6  # inches of a figure: as many as a phone shows at the size of its text
_LARGE = 60_000  # bytes of an SVG, of thousands of points


@dataclass(frozen=True)
class Drawing:
    """A figure of the page: file name without its suffix, what it shows, and what one must know to read it."""

    name: str
    title: str
    figure: Figure
    caption: str = ""

    @property
    def data_uri(self) -> str:
        """The figure as the address of an image that carries its content: SVG, or PNG where that is much smaller."""
        buffer = io.BytesIO()
        # text stays text, so that the file is small; the same bytes whenever it is drawn
        with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "deit_fast", "path.simplify": True}):
            self.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        kind, content = "svg+xml", buffer.getvalue()
        if len(content) > _LARGE:
            kind, content = min((kind, content), ("png", png(self.figure)), key=lambda one: len(one[1]))
        return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def png(figure: Figure) -> bytes:
    """The figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def new_figure(height: float, *titles: str) -> tuple[Figure, list[Axes]]:
    """A figure of that height in inches, with axes for each title, two in a row; they have no frame."""
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
