"""Takes the coefficients of tiles, gives rows of pixels, by way of planes of samples that hold two rows of MCUs.

Only those blocks and rows are made that the wanted pixels depend on. The planes are small enough to stay in the nearest cache.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg import decode_tables as head
from deit_fast.kernels.jpeg.colour import CHUNK, convert_full, convert_grey, convert_half_sides, convert_half_width
from deit_fast.kernels.jpeg.decode_scratch import FACTORS, LAST_CHUNK, MARGIN, PLANES, RANGES, TOO_LARGE, part, stride_of
from deit_fast.kernels.jpeg.idct import transform_blocks
from deit_fast.kernels.transpose import void_pointer


@compiled()
def samples_of(component, factor, first, end, size):  # type: ignore[no-untyped-def]
    """(first, end) of a component's samples that wanted pixels depend on along an axis: of interpolated chroma, those beside
    them too. factor: luma's; size: of the axis, in pixels."""
    if component > 0 and factor == 2:
        return max((first - 1) >> 1, 0), min((end >> 1) + 1, (size + 1) // 2)
    return first, end


@compiled()
def mcus_of(num_components, factor, first, end, size):  # type: ignore[no-untyped-def]
    """(first, end) of the MCUs that hold these samples, of all components."""
    first_mcu, end_mcu = first // (8 * factor), (end + 8 * factor - 1) // (8 * factor)
    if num_components == 3:
        first, end = samples_of(1, factor, first, end, size)
        first_mcu, end_mcu = min(first_mcu, first // 8), max(end_mcu, (end + 7) // 8)
    return first_mcu, end_mcu


@compiled()
def find_ranges(facts, wanted, rows, columns, scratch):  # type: ignore[no-untyped-def]
    """Writes which samples of each component the wanted pixels depend on."""
    ranges = part(scratch, RANGES, (3, 4), np.int64)
    for component in range(facts[head.NUM_COMPONENTS]):
        vertical = samples_of(component, facts[head.VERTICAL], wanted[0], wanted[1], rows)
        horizontal = samples_of(component, facts[head.HORIZONTAL], wanted[2], wanted[3], columns)
        ranges[component, 0], ranges[component, 1] = vertical
        ranges[component, 2], ranges[component, 3] = horizontal


@compiled()
def _plane_rows(facts, component):  # type: ignore[no-untyped-def]
    """Rows that a component's plane holds: of two MCUs."""
    return 16 * (facts[head.VERTICAL] if component == 0 else 1)


@compiled()
def _plane(facts, component, columns, scratch):  # type: ignore[no-untyped-def]
    """Address of the first sample of a component's plane."""
    place = 0 if component == 0 else _plane_rows(facts, 0) + 16 * (component - 1)
    return scratch.ctypes.data + PLANES + place * stride_of(columns) + MARGIN


@compiled()
def transform_tile(row, column, interval, coefficients, facts, columns, scratch):  # type: ignore[no-untyped-def]
    """Turns a tile's coefficients into samples, in those blocks that hold wanted ones; row, column: of tiles in the window."""
    ranges = part(scratch, RANGES, (3, 4), np.int64)
    num_blocks = facts[head.HORIZONTAL] * facts[head.VERTICAL] + facts[head.NUM_COMPONENTS] - 1
    stride = stride_of(columns)
    for component in range(facts[head.NUM_COMPONENTS]):
        horizontal = facts[head.HORIZONTAL] if component == 0 else 1
        vertical = facts[head.VERTICAL] if component == 0 else 1
        first_block = 0 if component == 0 else num_blocks - 3 + component
        factors = scratch.ctypes.data + FACTORS + 256 * component
        plane, plane_rows = _plane(facts, component, columns, scratch), _plane_rows(facts, component)
        first_y = max(ranges[component, 0] // 8, row * vertical)
        end_y = min((ranges[component, 1] + 7) // 8, (row + 1) * vertical)
        first_x = max(ranges[component, 2] // 8, column * interval * horizontal)
        end_x = min((ranges[component, 3] + 7) // 8, (column + 1) * interval * horizontal)
        for y in range(first_y, end_y):
            target = plane + (8 * y & (plane_rows - 1)) * stride
            line = first_block + (y - row * vertical) * horizontal
            for x in range(first_x, end_x, 2):
                other_x = min(x + 1, end_x - 1)
                at, other = x - column * interval * horizontal, other_x - column * interval * horizontal
                if horizontal == 2:
                    at, other = (at >> 1) * num_blocks + (at & 1), (other >> 1) * num_blocks + (other & 1)
                else:
                    at, other = at * num_blocks, other * num_blocks
                transform_blocks(
                    coefficients + 128 * (line + at), coefficients + 128 * (line + other), factors,
                    target + 8 * x, target + 8 * other_x, stride, scratch.ctypes.data + TOO_LARGE,
                )  # fmt: skip


@compiled()
def _repeat_edges(row, facts, columns, scratch):  # type: ignore[no-untyped-def]
    """Copies the first and the last sample of each row of chroma beyond the edges."""
    stride = stride_of(columns)
    size = (columns + 1) // 2
    for component in range(1, facts[head.NUM_COMPONENTS]):
        at = _plane(facts, component, columns, scratch) + (8 * row & 15) * stride
        for line in range(8):
            samples = carray(void_pointer(at + line * stride - MARGIN), (stride,), np.uint8)
            samples[MARGIN - 1] = samples[MARGIN]
            samples[MARGIN + size] = samples[MARGIN + size - 1]


@compiled()
def _convert(horizontal, vertical, num_components, luma, cb, cr, to_other_row, target, num_chunks):  # type: ignore[no-untyped-def]
    """One of `colour`'s conversions, which take addresses; to_other_row: bytes to the other row of chroma beside the pixels."""
    if num_components == 1:
        convert_grey(luma, cb, cb, cr, cr, target, num_chunks)
    elif horizontal == 1:
        convert_full(luma, cb, cb, cr, cr, target, num_chunks)
    elif vertical == 1:
        convert_half_width(luma, cb, cb, cr, cr, target, num_chunks)
    else:
        convert_half_sides(luma, cb, cb + to_other_row, cr, cr + to_other_row, target, num_chunks)


@compiled()
def show_row(horizontal, vertical, num_components, luma, cb, cr, to_other_row, first, num_chunks, num_pixels, scratch, pixels):  # type: ignore[no-untyped-def]
    """Turns num_chunks * CHUNK samples of a row into pixels, from the pixel `first` of num_pixels on; see `_convert`.

    Chunks may go beyond the row's end: what they overwrite there of the next is to be written later. No pixels behind the last
    are written.
    """
    target = 3 * first
    num_whole = min((3 * num_pixels - target) // (3 * CHUNK), num_chunks)
    address = pixels.ctypes.data + target
    _convert(horizontal, vertical, num_components, luma, cb, cr, to_other_row, address, num_whole)
    for chunk in range(num_whole, num_chunks):
        step = chunk * CHUNK
        address = scratch.ctypes.data + LAST_CHUNK
        cb_place, cr_place = cb + step // horizontal, cr + step // horizontal
        _convert(horizontal, vertical, num_components, luma + step, cb_place, cr_place, to_other_row, address, np.int64(1))
        last = part(scratch, LAST_CHUNK, (3 * CHUNK,), np.uint8)
        for i in range(min(3 * CHUNK, 3 * num_pixels - target - 3 * step)):
            pixels[target + 3 * step + i] = last[i]


@compiled()
def show_rows(row, done, wanted, rows, columns, facts, scratch, pixels):  # type: ignore[no-untyped-def]
    """Turns the wanted rows of pixels from `done` on that are complete after a row of MCUs; gives the first that is not."""
    horizontal, vertical, num_components = facts[head.HORIZONTAL], facts[head.VERTICAL], facts[head.NUM_COMPONENTS]
    stride = stride_of(columns)
    end = 8 * vertical * (row + 1)
    if horizontal == 2:
        _repeat_edges(row, facts, columns, scratch)
    if vertical == 2 and end < rows:
        end -= 1  # the last row depends on the chroma below
    end = min(end, wanted[1])
    x = wanted[2] // CHUNK * CHUNK
    num_chunks = (wanted[3] - x + CHUNK - 1) // CHUNK
    luma_plane = _plane(facts, 0, columns, scratch) + x
    cb_plane = _plane(facts, 1, columns, scratch) + x // horizontal
    cr_plane = _plane(facts, 2, columns, scratch) + x // horizontal
    for y in range(done, end):
        near = far = y // vertical
        if vertical == 2:
            far = max(near - 1, 0) if y & 1 == 0 else min(near + 1, (rows + 1) // 2 - 1)
        luma = luma_plane + (y & (16 * vertical - 1)) * stride
        cb, cr = cb_plane + (near & 15) * stride, cr_plane + (near & 15) * stride
        to_other_row = ((far & 15) - (near & 15)) * stride
        first = y * columns + x
        show_row(
            horizontal, vertical, num_components, luma, cb, cr, to_other_row, first, num_chunks, rows * columns, scratch, pixels
        )
    return max(done, end)
