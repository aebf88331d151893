"""Takes an image's width and number of bytes, gives where in one array the parts lie that decoding a window of it needs."""

from __future__ import annotations

import numpy as np
from numba import carray

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg.bitstream import PADDING
from deit_fast.kernels.jpeg.decode_tables import TABLE_BYTES
from deit_fast.kernels.transpose import void_pointer

MARGIN = 64  # bytes before and behind a row of a plane
MOST_TILES = 8  # that are decoded together: the fewer, the oftener one is decoded alone at the end

# Parts of fixed size, in bytes from the start, all multiples of 64
FACTS = 0  # of the header: see `decode_tables`
RANGES = 512  # (3, 4) int64: samples of each component that are wanted: first row, end, first column, end
TOO_LARGE = 640  # (16,) int16: not 0 after coefficients that no sound image has
PLAN = 704  # (6, 4) uint64: see `decode_blocks`
LAST_CHUNK = 896  # pixels of which not all are in the image
FACTORS = 1024  # (3, 8, 16) int16: quantisation of each component
STREAMS = 1792  # (MOST_TILES, 8) uint64: see `decode_blocks`
PROGRESS = STREAMS + 128  # behind one stream of an image without tiles, (10,) int64: see `decode_image`
TABLES = 2304  # eight lookups
PLANES = TABLES + 8 * TABLE_BYTES  # rows of samples, then coefficients of some tiles, then their bits


def scratch_bytes(max_width: int, max_jpeg_bytes: int) -> int:
    """Bytes of scratch, a multiple of 64, that `decode_window` needs for images up to a width and a number of bytes."""
    return -(-int(bytes_needed(np.int64(max_width), np.int64(max_jpeg_bytes))) // 64) * 64


@compiled()
def bytes_needed(width, num_bytes):  # type: ignore[no-untyped-def]
    """Those that are used for one image."""
    return bits_place(width, width) + num_bytes + MOST_TILES * PADDING


@compiled()
def stride_of(columns):  # type: ignore[no-untyped-def]
    """Bytes from one row of a plane to the next, for a window of so many columns."""
    return (columns + 31) // 32 * 32 + 2 * MARGIN


@compiled()
def coefficients_place(columns):  # type: ignore[no-untyped-def]
    """Where coefficients begin. Two rows of MCUs have at most 64 rows of samples, all components together."""
    return PLANES + 64 * stride_of(columns)


@compiled()
def coefficient_bytes(width):  # type: ignore[no-untyped-def]
    """Bytes for the coefficients of a tile of so many columns of pixels, 48 for each at most, and one block more."""
    return (48 * (width + 15) + 128 + 63) // 64 * 64


@compiled()
def coefficients_room(width):  # type: ignore[no-untyped-def]
    """Bytes for the coefficients of tiles that are decoded together: two as wide as the image, or MOST_TILES of the usual."""
    return max(2 * coefficient_bytes(width), MOST_TILES * coefficient_bytes(min(width, 128)))


@compiled()
def bits_place(columns, width):  # type: ignore[no-untyped-def]
    """Where the bits of tiles begin."""
    return coefficients_place(columns) + coefficients_room(width)


@compiled()
def part(scratch, place, shape, kind):  # type: ignore[no-untyped-def]
    """An array that lies in scratch from a place on."""
    return carray(void_pointer(scratch.ctypes.data + place), shape, kind)
