"""Takes the tiles of a stored JPEG under a window, some at a time, gives the coefficients of their blocks."""

from __future__ import annotations

import numpy as np

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg import tiles
from deit_fast.kernels.jpeg.bitstream import PADDING
from deit_fast.kernels.jpeg.decode_blocks import BLOCK_BYTES, decode_streams
from deit_fast.kernels.jpeg.decode_scratch import MOST_TILES, PLAN, STREAMS, bits_place, coefficients_place, part
from deit_fast.kernels.jpeg.tile_bits import ends_with, length_of, unstuff_tile

_U = np.uint64  # Numba makes floats of sums of signed and unsigned integers


@compiled()
def read_tiles(encoded, lengths, length_bytes, grid, block, place, end_row, mcus, num_blocks, scratch):  # type: ignore[no-untyped-def]
    """(number, place) of the next tiles, as many as there is room for, whose coefficients are found; 0: one is damaged.

    encoded, lengths, length_bytes, grid, block as for `decode_window`, behind whose `make_tables` this is; place: (row and
    column of the next tile in the window, number of a tile in the image, where it begins), and then the place behind the
    tiles; end_row: of the rows of MCUs that the window depends on; mcus: (first, end) of those in a row; num_blocks: of an MCU.
    """
    row, column = place[0], place[1]
    number, place = fill_streams(encoded, lengths, length_bytes, grid, block, place, end_row, mcus, num_blocks, scratch)
    plan = _U(scratch.ctypes.data + PLAN)
    if number == 0 or not decode_streams(_U(scratch.ctypes.data + STREAMS), number, plan, plan + _U(32 * num_blocks)):
        return np.int64(0), place
    streams, interval = part(scratch, STREAMS, (MOST_TILES, 8), np.uint64), grid[0]
    for i in range(number):
        is_whole = (column + 1) * interval <= mcus[1]
        if not _ends_soundly(streams[i], is_whole):
            return np.int64(0), place
        row, column = next_tile(row, column, interval, mcus)
    return number, place


@compiled()
def next_tile(row, column, interval, mcus):  # type: ignore[no-untyped-def]
    """(row, column) of the tile that follows one under the window."""
    column += 1
    return (row + 1, mcus[0] // interval) if column * interval >= mcus[1] else (row, column)


@compiled()
def coefficients_of(number, scratch):  # type: ignore[no-untyped-def]
    """Address of the coefficients of a tile, by its number of those read last."""
    return np.int64(part(scratch, STREAMS, (MOST_TILES, 8), np.uint64)[number, 2])


@compiled()
def _ends_soundly(stream, is_whole):  # type: ignore[no-untyped-def]
    """Whether a decoded stream has used no bits behind its end and, if all of the tile was decoded, left no byte."""
    return stream[4] <= stream[1] and not (is_whole and stream[1] - stream[4] >= _U(8))


@compiled()
def fill_streams(encoded, lengths, length_bytes, grid, block, place, end_row, mcus, num_blocks, scratch):  # type: ignore[no-untyped-def]
    """(number, place) of the streams that are made of the next tiles; arguments as for `read_tiles`."""
    interval, mcu_width, mcu_height, width, height = grid
    tiles_per_row = (width + mcu_width - 1) // mcu_width // interval
    last_tile = tiles_per_row * ((height + mcu_height - 1) // mcu_height) - 1
    row, column, tile, source = place
    columns = tiles.pixels_of(grid, block)[3]
    coefficients_at, end_place = coefficients_place(columns), bits_place(columns, width)
    number, num_bits = np.int64(0), np.int64(0)
    while number < MOST_TILES and row < end_row:
        num_coefficients = min(mcus[1] - column * interval, interval) * num_blocks * 64
        end_coefficients = coefficients_at + 2 * num_coefficients + np.int64(BLOCK_BYTES)
        if end_coefficients > end_place:
            break
        wanted_tile = (block[0] + row) * tiles_per_row + block[2] + column
        while tile < wanted_tile:
            source += length_of(lengths, length_bytes, tile)
            tile += 1
        length = length_of(lengths, length_bytes, tile)
        if not ends_with(encoded, source, length, 0xD9 if tile == last_tile else 0xD0 + (tile & 7)):
            return np.int64(0), place
        places = coefficients_at, end_place
        num_bits = _fill_stream(encoded, source, length, num_bits, num_coefficients, places, number, scratch)
        if num_bits < 0:
            return np.int64(0), place
        coefficients_at = end_coefficients
        number += 1
        row, column = next_tile(row, column, interval, mcus)
    return number, (row, column, tile, source)


@compiled()
def _fill_stream(encoded, source, length, start, num_coefficients, places, number, scratch):  # type: ignore[no-untyped-def]
    """Unstuffs a tile to the scratch's bits from `start` on, and makes it a stream; where the next may start, -1: damaged.

    places: of its coefficients, and of the first bits."""
    coefficients_at, bits_at = places
    num_bytes = unstuff_tile(
        encoded, source, source + length - 2, part(scratch, bits_at, (scratch.size - bits_at,), np.uint8), start
    )
    if num_bytes < 0:
        return np.int64(-1)
    part(scratch, coefficients_at, (num_coefficients,), np.int16)[:] = 0
    stream = part(scratch, STREAMS + 64 * number, (8,), np.uint64)
    address = scratch.ctypes.data + bits_at + start
    stream[0], stream[1] = address, 8 * (address + num_bytes)
    stream[2] = scratch.ctypes.data + coefficients_at
    stream[3] = scratch.ctypes.data + coefficients_at + 2 * num_coefficients
    return start + num_bytes + PADDING
