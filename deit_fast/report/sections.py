"""Pages made of sections: key figures, small images with text, figures and tables, in this order."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deit_fast.report.drawing import Drawing
from deit_fast.report.html import rendered
from deit_fast.report.tables import Table

_SMALL = 100  # pixels: a smaller image is shown larger, without smoothing


@dataclass(frozen=True, eq=False)
class Tile:
    """An image (H, W, 3) uint8, what it shows, and the lines of text below it."""

    pixels: NDArray[np.uint8]
    title: str
    lines: tuple[str, ...] = ()

    @property
    def is_small(self) -> bool:
        return max(self.pixels.shape[:2]) < _SMALL

    @functools.cached_property
    def data_uri(self) -> str:
        """The image as an address that holds it, as a PNG of the same pixels."""
        buffer = io.BytesIO()
        Image.fromarray(self.pixels).save(buffer, "PNG")
        return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@dataclass(frozen=True)
class Group:
    """Images that belong together. is_wide: they are shown large."""

    title: str
    tiles: Sequence[Tile]
    is_wide: bool = False


@dataclass(frozen=True)
class Section:
    """A part of a page; what is empty is left out. folded: named lists that are shown when asked for."""

    title: str
    remark: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    groups: Sequence[Group] = ()
    drawings: Sequence[Drawing] = ()
    tables: Sequence[Table] = ()
    folded: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


def page_of_sections(title: str, sections: Sequence[Section]) -> str:
    """The page as HTML that needs no other file."""
    return rendered("sections.html.jinja", title=title, sections=sections)
