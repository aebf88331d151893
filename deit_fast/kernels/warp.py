"""Takes a view, gives it rotated, sheared or shifted, as Pillow's affine maps with bilinear or bicubic filter make it.

Which pixels come from within the view is decided in float64 and in Pillow's order of operations, so that no pixel is filled
that Pillow interpolates, or the other way round. The interpolation is in float32 (`pixel.interpolated`): at most one level
off. Neighbours beyond the edge are the pixel at the edge.
"""

from __future__ import annotations

import numpy as np

from deit_fast.kernels import pixel
from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.octets import PIXELS, QUAD
from deit_fast.kernels.vectors import LANES, between_rows, copy_bytes, copy_memory, floats

CHANNELS = 3
PAD = 2  # neighbours lie up to so many pixels outside


def warp_bytes(height: int, width: int) -> int:
    """Scratch that the functions here need: a copy with margins, four bytes to a pixel, and tables of its columns."""
    return (height + 2 * PAD) * (width + 2 * PAD) * QUAD + (60 + CHANNELS) * width + 16 * LANES + 4 * PIXELS


@compiled()
def coordinate_of(step, term, offset, column):  # type: ignore[no-untyped-def]
    return pixel.source_coordinate(step * (np.float64(column) + 0.5), term, offset)


@compiled()
def first_column(step, term, offset, bound, count):  # type: ignore[no-untyped-def]
    """First column from which on the coordinate is at least the bound (step > 0), or below it (step < 0); else count."""
    estimate = (bound - offset - term) / step - 0.5
    column = np.int64(min(max(estimate, 0.0), np.float64(count)))
    while column > 0 and (coordinate_of(step, term, offset, column - 1) >= bound) == (step > 0.0):
        column -= 1
    while column < count and (coordinate_of(step, term, offset, column) >= bound) != (step > 0.0):
        column += 1
    return column


@compiled()
def columns_within(step, term, offset, size, count):  # type: ignore[no-untyped-def]
    """The columns (first, end) of `count` whose coordinate lies in [0, size). Rounding keeps order, so they are a range."""
    if step == 0.0:
        coordinate = coordinate_of(step, term, offset, 0)
        return np.int64(0), np.int64(count if 0.0 <= coordinate < size else 0)
    low = first_column(step, term, offset, 0.0, count)
    high = first_column(step, term, offset, np.float64(size), count)
    return min(low, high), max(low, high)


@compiled()
def fill_pattern(fill, pattern):  # type: ignore[no-untyped-def]
    """pattern (3 W,) uint8 = a row of the colour `fill`, a tuple of three."""
    for i in range(0, pattern.size, CHANNELS):
        pattern[i], pattern[i + 1], pattern[i + 2] = fill


@compiled()
def fill_outside(view, y, first, end, pattern):  # type: ignore[no-untyped-def]
    """The columns of row y before `first` and from `end` on take the pattern; first <= end."""
    row, start, stop = view.ctypes.data + y * pattern.size, CHANNELS * first, CHANNELS * end
    copy_memory(row, pattern.ctypes.data, start)
    copy_memory(row + stop, pattern.ctypes.data + stop, pattern.size - stop)


@compiled()
def _interpolate(taps, start, stride, weights, levels, target, count):  # type: ignore[no-untyped-def]
    """count levels from target on = between taps from start + stride and from start + 2 stride on; the same weights for all.

    taps, levels: flat uint8. Indices instead of slices, which take longer than a row, and unsigned, which need no check.
    """
    first, step, out = np.uint64(start), np.uint64(stride), np.uint64(target)
    for i in range(count):
        at = first + np.uint64(i)
        before, level, after, second_after = taps[at], taps[at + step], taps[at + step + step], taps[at + step + step + step]
        levels[out + np.uint64(i)] = pixel.clipped(pixel.interpolated(before, level, after, second_after, weights))


@compiled()
def _shift_rows(view, factor, pixels, bicubic, fill, scratch):  # type: ignore[no-untyped-def]
    """Row y moves by factor * (y + 0.5) + pixels to the left: shear_x and translate_x; view (H, W, 3) uint8, in place."""
    height, width, length = view.shape[0], view.shape[1], view.shape[1] * CHANNELS
    margin = PAD * CHANNELS
    pattern, source = scratch[:length], scratch[length:][: length + 2 * margin]
    fill_pattern(fill, pattern)
    levels = view.reshape(view.size)
    for y in range(height):
        term, row = factor * (np.float64(y) + 0.5), y * length
        first, end = columns_within(1.0, term, pixels, width, width)
        if first < end:
            copy_memory(source.ctypes.data + margin, levels.ctypes.data + row, length)
            for i in range(margin):
                source[i] = levels[row + i % CHANNELS]
                source[margin + length + i] = levels[row + length - CHANNELS + i % CHANNELS]
            index, distance = pixel.split_coordinate(coordinate_of(1.0, term, pixels, first))
            weights = pixel.neighbour_weights(distance, bicubic)
            count = CHANNELS * (end - first)
            _interpolate(source, CHANNELS * (index - 1 + PAD), CHANNELS, weights, levels, row + CHANNELS * first, count)
        fill_outside(view, y, first, end, pattern)


@compiled()
def shear_x(view, argument, bicubic, fill, scratch):  # type: ignore[no-untyped-def]
    _shift_rows(view, argument, 0.0, bicubic, fill, scratch)


@compiled()
def translate_x(view, argument, bicubic, fill, scratch):  # type: ignore[no-untyped-def]
    _shift_rows(view, 0.0, argument, bicubic, fill, scratch)


@compiled()
def _copy_with_rows(view, source):  # type: ignore[no-untyped-def]
    """source = the rows of the view, flat, with the first and the last one twice more."""
    length = view.shape[1] * CHANNELS
    copy_bytes(view, source[PAD * length :])
    for i in range(PAD):
        copy_bytes(view[0], source[i * length :])
        copy_bytes(view[-1], source[(PAD + i) * length + view.size :])


@compiled()
def translate_y(view, argument, bicubic, fill, scratch):  # type: ignore[no-untyped-def]
    """All pixels move up by so many."""
    height, length = view.shape[0], view.shape[1] * CHANNELS
    pattern, source = scratch[:length], scratch[length:]
    fill_pattern(fill, pattern)
    first, end = columns_within(1.0, 0.0, argument, height, height)
    if first < end:
        _copy_with_rows(view, source)
        index, distance = pixel.split_coordinate(coordinate_of(1.0, 0.0, argument, first))
        weights = pixel.neighbour_weights(distance, bicubic)
        levels, count = view.reshape(view.size), (end - first) * length
        _interpolate(source, (index - 1 + PAD) * length, length, weights, levels, first * length, count)
    for y in range(height):
        if not first <= y < end:
            copy_bytes(pattern, view[y])


@compiled()
def shear_y(view, argument, bicubic, fill, scratch):  # type: ignore[no-untyped-def]
    """Column x moves up by argument * (x + 0.5).

    Columns that move by the same whole number of rows are done together, 16 bytes wide from the top down. What is written
    too far to the right is written again with the columns there.
    """
    height, width, length = view.shape[0], view.shape[1], view.shape[1] * CHANNELS
    pattern, tail, rest = scratch[:length], scratch[length:][:LANES], scratch[length + LANES :]
    fill_pattern(fill, pattern)
    source_size = (height + 2 * PAD) * length + LANES
    source, weights = rest[:source_size], floats(rest, source_size, 3 * (length + LANES))
    _copy_with_rows(view, source)
    begin = 0
    while begin < width:
        shift, _ = shift_of_column(argument, begin, height)
        end = begin
        while end < width:
            other, distance = shift_of_column(argument, end, height)
            if other != shift:
                break
            three = pixel.neighbour_weights(distance, bicubic)
            for i in range(CHANNELS * end, CHANNELS * end + CHANNELS):
                weights[i], weights[length + LANES + i], weights[2 * (length + LANES) + i] = three
            end += 1
        _shift_band(view, source, shift, CHANNELS * begin, CHANNELS * end, weights, tail)
        begin = end
    for y in range(height):
        first, end = columns_within(argument, np.float64(y) + 0.5, 0.0, height, width)
        fill_outside(view, y, first, end, pattern)


@compiled()
def shift_of_column(factor, column, height):  # type: ignore[no-untyped-def]
    """(whole rows, rest) that a column moves up. Rounding differs between rows, but not by anything that float32 shows."""
    row = height // 2
    coordinate = coordinate_of(factor, np.float64(row) + 0.5, 0.0, column)
    index, distance = pixel.split_coordinate(coordinate)
    return np.int64(index) - row, distance


@compiled()
def _shift_band(view, source, shift, begin, end, weights, tail):  # type: ignore[no-untyped-def]
    """Bytes begin to end of each row, from so many rows further down in the source."""
    height, length = view.shape[0], view.shape[1] * CHANNELS
    first, last = max(0, -shift - 1), min(height - 1, height - 1 - shift)
    weights_stride = 4 * (length + LANES)
    for start in range(begin, end, LANES):
        weights_at = weights.ctypes.data + 4 * start
        source_at = source.ctypes.data + (shift - 1 + PAD) * length + start
        fits = start + LANES <= length
        for y in range(first, last + 1):
            target = view.ctypes.data + y * length + start if fits else tail.ctypes.data
            between_rows(source_at + y * length, length, weights_at, weights_stride, target)
            if not fits:
                copy_memory(view.ctypes.data + y * length + start, tail.ctypes.data, length - start)
