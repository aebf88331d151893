"""Encodes pixels as a JPEG with tiles: byte for byte what Pillow's encoder writes, in less time."""

from __future__ import annotations

import functools
import io
import struct
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deit_fast.data.convert.transcode.header import Header, read_header, segments
from deit_fast.data.convert.transcode.tile_writer import Coefficients, Scratch, TileWriter, restart_interval
from deit_fast.data.format.layout import Tiling
from deit_fast.kernels.jpeg import forward, forward_dct
from deit_fast.kernels.jpeg.progressive_scans import ZIGZAG

_START_OF_FRAME, _RESTART_INTERVAL = 0xC0, 0xDD


@functools.lru_cache(maxsize=1024)  # with its grid and blocks
def _sized(header: Header, width: int, height: int) -> Header:
    return replace(header, width=width, height=height)


class TileEncoder:
    """An encoder of one quality and chroma subsampling (4:4:4, 4:2:2 or 4:2:0), in one process.

    optimize: give each image the shortest Huffman tables; then only the pixels are those of Pillow's encoder.
    """

    def __init__(self, quality: int, subsampling: str, *, optimize: bool) -> None:
        file = io.BytesIO()
        image = Image.new("RGB", (16, 16))
        image.save(file, "JPEG", quality=quality, subsampling=subsampling, restart_marker_blocks=1)
        example = file.getvalue()
        self._header = read_header(example)
        self._head = bytearray(example[: self._header.header_bytes])
        places = {marker: start for marker, start, _ in segments(example)}
        self._size_at, self._interval_at = places[_START_OF_FRAME] + 1, places[_RESTART_INTERVAL]
        self._optimize = optimize
        tables = []
        for component in self._header.components:
            table = np.zeros(64, np.uint16)
            table[ZIGZAG] = np.frombuffer(self._header.quantizations[component.quantization], np.uint8)[1:]
            tables.append(forward_dct.divisors(table))
        self._tables = np.array(tables)
        luma = self._header.components[0]
        self._factors = luma.horizontal, luma.vertical
        self._scratch = Scratch()
        self._writer = TileWriter(self._scratch)
        self._writer.define(self._header.huffman_tables)

    def encode(self, pixels: NDArray[np.uint8]) -> tuple[bytes, Tiling]:
        """The JPEG of RGB pixels (height, width, 3), contiguous, with sides of at most 65,500."""
        height, width = pixels.shape[:2]
        header = _sized(self._header, width, height)
        mcus_per_row, num_rows = header.grid
        num_blocks = mcus_per_row * num_rows * len(header.blocks)
        values = self._scratch.array("coefficients", np.int16, num_blocks, 64)[:num_blocks]
        masks = self._scratch.array("masks", np.uint64, num_blocks)[:num_blocks]
        scratch = self._scratch.array("planes", np.uint8, forward.scratch_bytes(width, *self._factors))
        forward.coefficients_of(pixels, *self._factors, self._tables, scratch, values, masks)
        found = Coefficients(header, values, masks)
        if self._optimize:
            return self._writer.from_coefficients(found)
        struct.pack_into(">HH", self._head, self._size_at, height, width)
        struct.pack_into(">H", self._head, self._interval_at, restart_interval(mcus_per_row, header.mcu[0]))
        return self._writer.from_coefficients(found, bytes(self._head))
