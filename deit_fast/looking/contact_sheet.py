"""Puts the images of a page's sections, with their texts, onto one picture."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from deit_fast.report.drawing import INK
from deit_fast.report.sections import Group, Section, Tile

_GREY, _LINE = "#57606a", "#d5dae0"
_WIDTH, _MARGIN, _GAP = 1600, 24, 10  # pixels
_LEAST_SIDE = 112  # pixels: smaller images are enlarged by a whole number
_LINE_HEIGHT = 16
_TEXT, _HEAD = 13, 22  # points


def contact_sheet(title: str, sections: Sequence[Section]) -> bytes:
    """A PNG of all images of the sections, each pixel as it is, or repeated where images are small."""
    placed = _Sheet()
    placed.text(title, _HEAD + 6)
    for section in sections:
        placed.y += 2 * _GAP
        if section.title:
            placed.text(section.title, _HEAD)
        if section.remark:
            placed.text(section.remark, _TEXT, _GREY)
        for name, value in section.facts.items():
            placed.text(f"{name}: {value}", _TEXT, _GREY)
        placed.groups(section.groups)
    return placed.png()


class _Sheet:
    """A picture that grows downwards. `y`: where the next part begins."""

    def __init__(self) -> None:
        self.y = _MARGIN
        self._texts: list[tuple[int, int, str, int, str]] = []
        self._images: list[tuple[int, int, NDArray[np.uint8]]] = []
        self._frames: list[tuple[int, int, int, int]] = []

    def text(self, words: str, size: int, color: str = INK) -> None:
        """Lines of text over the whole width."""
        for line in _wrapped(words, size, _WIDTH - 2 * _MARGIN):
            self._texts.append((_MARGIN, self.y, line, size, color))
            self.y += round(1.4 * size)

    def groups(self, groups: Sequence[Group]) -> None:
        """Groups side by side as far as there is room."""
        x, height = _MARGIN, 0
        for group in groups:
            for part in _parts(group):
                width, part_height = _size(part)
                if x > _MARGIN and x + width > _WIDTH - _MARGIN:
                    x, self.y, height = _MARGIN, self.y + height + _GAP, 0
                self._put(part, x, width, part_height)
                x, height = x + width + _GAP, max(height, part_height)
        self.y += height + _GAP

    def _put(self, group: Group, x: int, width: int, height: int) -> None:
        self._frames.append((x, self.y, x + width, self.y + height))
        x, top = x + _GAP, self.y + _GAP // 2
        for line in _wrapped(group.title, _TEXT, width - 2 * _GAP):
            self._texts.append((x, top, line, _TEXT, INK))
            top += _LINE_HEIGHT
        for tile in group.tiles:
            pixels = _enlarged(tile.pixels)
            self._images.append((x, top + 4, pixels))
            for number, line in enumerate(_lines(tile)):
                self._texts.append((x, top + 6 + pixels.shape[0] + number * _LINE_HEIGHT, line, _TEXT, _GREY))
            x += pixels.shape[1] + _GAP

    def png(self) -> bytes:
        sheet = Image.new("RGB", (_WIDTH, self.y + _MARGIN), "white")
        draw = ImageDraw.Draw(sheet)
        for frame in self._frames:
            draw.rectangle(frame, outline=_LINE)
        for x, y, words, size, color in self._texts:
            draw.text((x, y), words, color, _font(size))
        for x, y, pixels in self._images:
            sheet.paste(Image.fromarray(pixels), (x, y))
        buffer = io.BytesIO()
        sheet.save(buffer, "PNG")
        return buffer.getvalue()


def _parts(group: Group) -> Iterator[Group]:
    """The group in parts that fit into the width, each with some of its images."""
    count = max(1, (_WIDTH - 2 * _MARGIN - _GAP) // (_enlarged(group.tiles[0].pixels).shape[1] + _GAP)) if group.tiles else 1
    for first in range(0, len(group.tiles), count):
        yield Group(group.title if first == 0 else "", group.tiles[first : first + count])


def _size(group: Group) -> tuple[int, int]:
    """Width and height of a group, in pixels."""
    images = [_enlarged(tile.pixels) for tile in group.tiles]
    width = sum(image.shape[1] + _GAP for image in images) + _GAP
    lines = max(len(_lines(tile)) for tile in group.tiles)
    titles = len(list(_wrapped(group.title, _TEXT, width - 2 * _GAP)))
    return width, max(image.shape[0] for image in images) + (titles + lines) * _LINE_HEIGHT + 2 * _GAP


def _lines(tile: Tile) -> list[str]:
    width = _enlarged(tile.pixels).shape[1]
    return [line for words in tile.lines for line in _wrapped(words, _TEXT, width)]


def _enlarged(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    factor = max(1, -(-_LEAST_SIDE // max(pixels.shape[:2])))
    return pixels.repeat(factor, 0).repeat(factor, 1)


def _wrapped(words: str, size: int, width: int) -> Iterator[str]:
    """The text in lines of at most a width in pixels; a longer word is cut."""
    font, line = _font(size), ""
    for word in words.split():
        while font.getlength(word) > width and len(word) > 1:
            length = next((n for n in range(len(word), 1, -1) if font.getlength(word[:n]) <= width), 1)
            if line:
                yield line
                line = ""
            yield word[:length]
            word = word[length:]
        longer = f"{line} {word}".strip()
        if font.getlength(longer) > width:
            yield line
            line = word
        else:
            line = longer
    if line:
        yield line


@functools.cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which comes with matplotlib."""
    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)
