"""Reads the coefficients of progressive JPEGs with our own decoder, where nothing in them is unusual."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from deit_fast.data.convert.transcode.header import Header
from deit_fast.data.convert.transcode.tile_writer import Coefficients, Scratch
from deit_fast.kernels.jpeg import bitstream, progressive

_LUMA, _CHROMA = (0, 4), (1, 5)  # numbers of DC and AC tables, as libjpeg gives them


def read_progressive(encoded: bytes, header: Header, scratch: Scratch) -> Coefficients | None:
    """The coefficients, which lie in scratch; None if TurboJPEG must decide, because something is damaged or unusual.

    Nothing else need be compared: libjpeg turns the coefficients of a progressive and of a sequential JPEG into pixels alike,
    unless bits of some were not sent, which is unusual here; then it smooths what it shows.
    """
    components = header.components
    if not all(c.quantization in header.quantizations for c in components):
        return None
    numbered = (replace(c, dc=min(place, 1), ac=min(place, 1)) for place, c in enumerate(components))
    tables = dict.fromkeys((*_LUMA, *_CHROMA) if len(components) > 1 else _LUMA, b"")
    sequential = replace(header, components=tuple(numbered), huffman_tables=dict(sorted(tables.items())))
    grid = header.grid
    num_blocks = grid[0] * grid[1] * len(sequential.blocks)
    # each block has a bit for its first coefficient: take no memory for more than a small file can hold
    if num_blocks > 8 * len(encoded):
        return None
    values = scratch.array("coefficients", np.int16, num_blocks, 64)[:num_blocks]
    masks = scratch.array("masks", np.uint64, num_blocks)[:num_blocks]
    sampling = [(c.horizontal, c.vertical) if len(components) > 1 else (1, 1) for c in components]
    status = progressive.read_scans(
        np.frombuffer(encoded, np.uint8),
        np.array([c.identifier for c in components], np.uint8),
        np.array(sampling, np.int64),
        grid,
        (header.width, header.height),
        scratch.array("bits", np.uint8, len(encoded) + bitstream.PADDING),
        values,
        masks,
    )
    return Coefficients(sequential, values, masks) if status == bitstream.OK else None
