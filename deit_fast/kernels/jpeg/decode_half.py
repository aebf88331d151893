"""Takes a stored JPEG with tiles, gives a window of it at half its size, bit for bit as libjpeg-turbo, in less time.

As `decode_window`, but a block becomes 4 x 4 samples, or 8 x 8 if it is of chroma that has half luma's size already (as in
libjpeg's jdmaster.c). So there is a sample of each component for each pixel, and nothing is interpolated.
"""

from __future__ import annotations

import numpy as np

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg import decode_tables as head
from deit_fast.kernels.jpeg import planes, tiles
from deit_fast.kernels.jpeg.colour import CHUNK
from deit_fast.kernels.jpeg.decode_scratch import FACTORS, FACTS, MARGIN, PLANES, TOO_LARGE, bytes_needed, part, stride_of
from deit_fast.kernels.jpeg.decode_window import DAMAGED, OK, UNSUPPORTED, judge_header, make_tables
from deit_fast.kernels.jpeg.idct import transform_blocks
from deit_fast.kernels.jpeg.idct_half import SIZE, transform_quad
from deit_fast.kernels.jpeg.read_tiles import coefficients_of, next_tile, read_tiles

_PLANE_ROWS = 8  # of one MCU


@compiled()
def _half(first, end, origin):  # type: ignore[no-untyped-def]
    """(first, end) of the halved pixels that show some, counted from an even origin on."""
    return (first - origin) // 2, (end - origin + 1) // 2


@compiled()
def decode_half(encoded, header_bytes, lengths, length_bytes, grid, block, need, scratch, pixels):  # type: ignore[no-untyped-def]
    """Status of decoding a window of a stored JPEG at half its size; arguments and statuses as for `decode_window`.

    need: of the image at full size. Written: pixels, the RGB rows of the block's h x w pixels at half their size, ceil(h / 2) x
    ceil(w / 2) x 3, right where they show needed ones. UNSUPPORTED too if chroma has half of luma's width and all its height.
    """
    if scratch.size < PLANES:
        return UNSUPPORTED
    facts = part(scratch, FACTS, (head.NUM_FACTS,), np.int64)
    status = judge_header(encoded, header_bytes, lengths, length_bytes, grid, block, need, facts)
    if status != OK:
        return status
    top, left, rows, columns = tiles.pixels_of(grid, block)
    rows, columns = (rows + 1) // 2, (columns + 1) // 2
    if pixels.size < rows * columns * 3 or scratch.size < bytes_needed(grid[3], np.int64(encoded.size)):
        return UNSUPPORTED
    if facts[head.HORIZONTAL] != facts[head.VERTICAL]:
        return UNSUPPORTED
    make_tables(encoded, facts, scratch)
    wanted = _half(need[0], need[1], top), _half(need[2], need[3], left)
    status = _decode_tiles(
        encoded, header_bytes, lengths, length_bytes, grid, block, wanted, rows, columns, facts, scratch, pixels
    )
    return UNSUPPORTED if status == OK and part(scratch, TOO_LARGE, (16,), np.int16).any() else status


@compiled()
def _decode_tiles(encoded, header_bytes, lengths, length_bytes, grid, block, wanted, rows, columns, facts, scratch, pixels):  # type: ignore[no-untyped-def]
    """Status of decoding the tiles that hold the wanted pixels ((first row, end), (first column, end)) of rows x columns."""
    interval, factor = grid[0], facts[head.HORIZONTAL]
    mcu = SIZE * factor
    num_blocks = factor * factor + facts[head.NUM_COMPONENTS] - 1
    row, end_row = wanted[0][0] // mcu, (wanted[0][1] + mcu - 1) // mcu
    mcus = wanted[1][0] // mcu, (wanted[1][1] + mcu - 1) // mcu
    column = mcus[0] // interval
    place = row, column, np.int64(0), np.int64(header_bytes)
    while row < end_row:
        number, place = read_tiles(encoded, lengths, length_bytes, grid, block, place, end_row, mcus, num_blocks, scratch)
        if number == 0:
            return DAMAGED
        for i in range(number):
            first, end = column * interval, min((column + 1) * interval, mcus[1])
            _transform_mcus(max(first, mcus[0]), end, coefficients_of(i, scratch), first, facts, columns, scratch)
            following = next_tile(row, column, interval, mcus)
            if following[0] > row:
                _show_rows(row, wanted, rows, columns, facts, scratch, pixels)
            row, column = following
    return OK


@compiled()
def _plane(component, columns, scratch):  # type: ignore[no-untyped-def]
    """Address of the first sample of a component's plane, which holds a row of MCUs."""
    return scratch.ctypes.data + PLANES + _PLANE_ROWS * component * stride_of(columns) + MARGIN


@compiled()
def _transform_mcus(mcu, end_mcu, coefficients, first_mcu, facts, columns, scratch):  # type: ignore[no-untyped-def]
    """Turns the coefficients of some MCUs beside each other into samples; first_mcu: whose coefficients come first."""
    factor, num_components = facts[head.HORIZONTAL], facts[head.NUM_COMPONENTS]
    mcu_bytes = 128 * (factor * factor + num_components - 1)
    stride, too_large = stride_of(columns), scratch.ctypes.data + TOO_LARGE
    for component in range(num_components):
        factors, plane = scratch.ctypes.data + FACTORS + 256 * component, _plane(component, columns, scratch)
        at = coefficients - first_mcu * mcu_bytes
        if component > 0:
            at += 128 * (factor * factor + component - 1)
        if factor == 1:
            last = at + (end_mcu - 1) * mcu_bytes
            for x in range(mcu, end_mcu, 4):
                first = at + x * mcu_bytes
                second, third = min(first + mcu_bytes, last), min(first + 2 * mcu_bytes, last)
                fourth = min(first + 3 * mcu_bytes, last)
                transform_quad(first, second, third, fourth, factors, plane + SIZE * x, stride, too_large)
            continue
        for x in range(mcu, end_mcu, 2):
            first, second = at + x * mcu_bytes, at + min(x + 1, end_mcu - 1) * mcu_bytes
            target = plane + 8 * x
            if component > 0:
                transform_blocks(first, second, factors, target, plane + 8 * min(x + 1, end_mcu - 1), stride, too_large)
            else:
                for line in range(2):
                    upper, other = first + 256 * line, second + 256 * line
                    lower = target + SIZE * line * stride
                    transform_quad(upper, upper + 128, other, other + 128, factors, lower, stride, too_large)


@compiled()
def _show_rows(row, wanted, rows, columns, facts, scratch, pixels):  # type: ignore[no-untyped-def]
    """Turns the wanted rows of a row of MCUs into pixels."""
    mcu, num_components = SIZE * facts[head.HORIZONTAL], facts[head.NUM_COMPONENTS]
    stride = stride_of(columns)
    x = wanted[1][0] // CHUNK * CHUNK
    num_chunks = (wanted[1][1] - x + CHUNK - 1) // CHUNK
    for y in range(max(row * mcu, wanted[0][0]), min((row + 1) * mcu, wanted[0][1])):
        luma, cb, cr = _plane(0, columns, scratch), _plane(1, columns, scratch), _plane(2, columns, scratch)
        at = x + (y - row * mcu) * stride
        planes.show_row(
            np.int64(1), np.int64(1), num_components, luma + at, cb + at, cr + at, np.int64(0), y * columns + x, num_chunks,
            rows * columns, scratch, pixels,
        )  # fmt: skip
