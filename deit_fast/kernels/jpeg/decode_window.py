"""Takes a stored JPEG with tiles, gives the pixels of a window of it, bit for bit those of libjpeg-turbo, in less time.

Only the tiles that the window depends on are read, some at a time, each up to the last MCU that it depends on; from top to
bottom their coefficients become samples, and rows of pixels as soon as they are complete.
"""

from __future__ import annotations

import numpy as np

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg import decode_tables as head
from deit_fast.kernels.jpeg import planes, tiles
from deit_fast.kernels.jpeg.decode_blocks import NATURAL_ORDER
from deit_fast.kernels.jpeg.decode_scratch import (
    FACTORS,
    FACTS,
    PLAN,
    PLANES,
    TABLES,
    TOO_LARGE,
    bytes_needed,
    part,
    scratch_bytes,
)
from deit_fast.kernels.jpeg.read_tiles import coefficients_of, next_tile, read_tiles

__all__ = ["DAMAGED", "OK", "UNSUPPORTED", "decode_window", "scratch_bytes"]

OK = 0
UNSUPPORTED = 1  # for TurboJPEG: a JPEG of another kind, or one on whose header libjpeg would remark
DAMAGED = 2


@compiled()
def decode_window(encoded, header_bytes, lengths, length_bytes, grid, block, need, scratch, pixels):  # type: ignore[no-untyped-def]
    """Status of decoding a window of a stored JPEG.

    encoded (n,) uint8, lengths (num_tiles * length_bytes,) uint8, grid, block as in `kernels.jpeg.tiles`; need: (first row,
    end, first column, end) of the image's pixels that are wanted, whose `tiles.tiles_under` are in the block; scratch
    (>= scratch_bytes(),) uint8, its address a multiple of 8. Written: pixels (>= h * w * 3,) uint8, the RGB rows of the
    block's pixels, right where they are wanted, if OK. Nothing outside the arrays is read or written, whatever they hold.

    UNSUPPORTED: for TurboJPEG, which may know better. DAMAGED: libjpeg would warn or fail, or it is something that no encoder
    writes; what is damaged behind the last wanted MCU of a tile, or in other tiles, is not noticed.
    """
    if scratch.size < PLANES:
        return UNSUPPORTED
    facts = part(scratch, FACTS, (head.NUM_FACTS,), np.int64)
    status = judge_header(encoded, header_bytes, lengths, length_bytes, grid, block, need, facts)
    if status != OK:
        return status
    top, left, rows, columns = tiles.pixels_of(grid, block)
    if pixels.size < rows * columns * 3 or scratch.size < bytes_needed(grid[3], np.int64(encoded.size)):
        return UNSUPPORTED
    make_tables(encoded, facts, scratch)
    wanted = need[0] - top, need[1] - top, need[2] - left, need[3] - left
    planes.find_ranges(facts, wanted, rows, columns, scratch)
    status = _decode_tiles(encoded, header_bytes, lengths, length_bytes, grid, block, wanted, facts, scratch, pixels)
    return UNSUPPORTED if status == OK and part(scratch, TOO_LARGE, (16,), np.int16).any() else status


@compiled()
def judge_header(encoded, header_bytes, lengths, length_bytes, grid, block, need, facts):  # type: ignore[no-untyped-def]
    """Status of a stored JPEG by its header, its index and what is wanted of it, as far as the tiles need not be read for it.

    Arguments as for `decode_window`; facts (head.NUM_FACTS,) int64 is filled.
    """
    interval, mcu_width, mcu_height, width, height = grid
    is_index = length_bytes == 2 or length_bytes == 4
    if not is_index or tiles.grid_of(interval, lengths.size // length_bytes, mcu_width, mcu_height, width, height)[0] == 0:
        return UNSUPPORTED
    is_inside = 0 <= need[0] < need[1] <= height and 0 <= need[2] < need[3] <= width and block[0] >= 0 and block[2] >= 0
    under = tiles.tiles_under(grid, need[0], need[1], need[2], need[3])
    is_inside &= block[0] <= under[0] and under[1] <= block[1] and block[2] <= under[2] and under[3] <= block[3]
    if not is_inside or not head.read_facts(encoded, header_bytes, facts):
        return UNSUPPORTED
    if facts[head.WIDTH] != width or facts[head.HEIGHT] != height or facts[head.INTERVAL] != interval:
        return DAMAGED
    if 8 * facts[head.HORIZONTAL] != mcu_width or 8 * facts[head.VERTICAL] != mcu_height:
        return DAMAGED
    for component in range(facts[head.NUM_COMPONENTS]):
        for table in facts[head.COMPONENTS + 3 * component + 1 : head.COMPONENTS + 3 * component + 3]:
            if not head.is_sound_table(encoded, facts[head.DEFINITIONS + table], table < 4):
                return UNSUPPORTED
    # libjpeg does not interpolate chroma of one or two columns
    return UNSUPPORTED if facts[head.HORIZONTAL] == 2 and tiles.pixels_of(grid, block)[3] <= 4 else OK


@compiled()
def make_tables(encoded, facts, scratch):  # type: ignore[no-untyped-def]
    """Fills all of scratch that decoding blocks needs from the facts of the header."""
    plan = part(scratch, PLAN, (6, 4), np.uint64)
    factors = part(scratch, FACTORS, (3, 8, 16), np.int16)
    part(scratch, TOO_LARGE, (16,), np.int16)[:] = 0
    made = np.int64(0)
    number = np.int64(0)
    for component in range(facts[head.NUM_COMPONENTS]):
        place = head.COMPONENTS + 3 * component
        lookups = scratch.ctypes.data + TABLES
        for table in facts[place + 1 : place + 3]:
            if made >> table & 1 == 0:
                head.make_lookup(encoded, facts[head.DEFINITIONS + table], table < 4, lookups + table * head.TABLE_BYTES)
                made |= 1 << table
        at = facts[head.QUANTIZATIONS + facts[place]]
        head.make_quantization(encoded, at, NATURAL_ORDER, factors[component])
        for _ in range(facts[head.HORIZONTAL] * facts[head.VERTICAL] if component == 0 else 1):
            plan[number, 0] = lookups + facts[place + 1] * head.TABLE_BYTES
            plan[number, 1] = lookups + facts[place + 2] * head.TABLE_BYTES
            plan[number, 2] = 40 + 8 * component
            number += 1


@compiled()
def _decode_tiles(encoded, header_bytes, lengths, length_bytes, grid, block, wanted, facts, scratch, pixels):  # type: ignore[no-untyped-def]
    """Status of decoding the tiles that hold the wanted samples, some at a time, and turning them into pixels."""
    interval = grid[0]
    _, _, rows, columns = tiles.pixels_of(grid, block)
    num_components, factors = facts[head.NUM_COMPONENTS], (facts[head.VERTICAL], facts[head.HORIZONTAL])
    num_blocks = factors[0] * factors[1] + num_components - 1
    row, end_row = planes.mcus_of(num_components, factors[0], wanted[0], wanted[1], rows)
    mcus = planes.mcus_of(num_components, factors[1], wanted[2], wanted[3], columns)
    column, done = mcus[0] // interval, wanted[0]
    place = row, column, np.int64(0), np.int64(header_bytes)
    while row < end_row:
        number, place = read_tiles(encoded, lengths, length_bytes, grid, block, place, end_row, mcus, num_blocks, scratch)
        if number == 0:
            return DAMAGED
        for i in range(number):
            planes.transform_tile(row, column, interval, coefficients_of(i, scratch), facts, columns, scratch)
            following = next_tile(row, column, interval, mcus)
            if following[0] > row:
                done = planes.show_rows(row, done, wanted, rows, columns, facts, scratch, pixels)
            row, column = following
    return OK
