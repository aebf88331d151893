"""Takes figures of matplotlib, gives them as SVG and PNG, and what all of them share."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

PUBLISHED, INK = "#8a8f98", "#1b1f24"
_LARGE = 60_000  # bytes of an SVG, of thousands of points
WIDTH = 4.6  # inches of a figure: as many as a phone shows at the size of its text


@dataclass(frozen=True)
class Drawing:
    """A figure of the page: file name without its end, what it shows, and what one must know to read it."""

    name: str
    title: str
    figure: Figure
    caption: str = ""


def add_axes(figure: Figure, title: str, place: tuple[int, int, int] = (1, 1, 1)) -> Axes:
    """Axes with a title at their left, without a frame."""
    axes = figure.add_subplot(*place)
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9)
    return axes


def say_if_empty(axes: Axes, words: str) -> None:
    """Writes the words where nothing was drawn."""
    if not axes.has_data():
        axes.text(0.5, 0.5, words, ha="center", va="center", transform=axes.transAxes, color="gray")


def literal(words: str) -> str:
    """Text that matplotlib shows as it is, without mathematics in it."""
    return words.replace("$", r"\$")


def short(words: str, length: int) -> str:
    """At most so many characters; what is left out of the middle is shown by dots."""
    if len(words) <= length:
        return words
    head = (length - 1) // 2
    return f"{words[:head]}…{words[len(words) - (length - 1 - head) :]}"


def png(figure: Figure) -> bytes:
    """The figure as PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def svg(figure: Figure) -> bytes:
    """The figure as SVG, the same bytes whenever it is drawn; its text is text, so that it is small."""
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "deit_fast", "path.simplify": True}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def data_uri(figure: Figure) -> str:
    """The figure as the address of an image that carries its content: SVG, or PNG where that is much smaller."""
    kind, content = "svg+xml", svg(figure)
    if len(content) > _LARGE:
        kind, content = min((kind, content), ("png", png(figure)), key=lambda one: len(one[1]))
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
