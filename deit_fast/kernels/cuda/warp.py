"""Takes a view as quads, gives it rotated, sheared or shifted: `kernels.warp` and `kernels.rotation` on the GPU.

Each pixel by the scalar definitions: its place in float64, the interpolation in float32, first between rows, then between
columns. Shears and shifts move within one of the two, and by what the CPU's loops take for a whole row or column.
"""

from __future__ import annotations

import numpy as np

from deit_fast.kernels import pixel
from deit_fast.kernels.affine import ROTATE, SHEAR_X, SHEAR_Y, TRANSLATE_X
from deit_fast.kernels.cuda.driver import device_function
from deit_fast.kernels.cuda.quads import place_of, split, store_pixel
from deit_fast.kernels.warp import coordinate_of, first_column, shift_of_column


@device_function
def quarters_of(degrees, height, width):  # type: ignore[no-untyped-def]
    """How many quarters of a circle a rotation turns by if it moves pixels to pixels, else -1."""
    angle = degrees % 360.0
    if angle == 0.0:
        return 0
    if angle == 180.0:
        return 2
    if height == width and angle == 90.0:
        return 1
    return 3 if height == width and angle == 270.0 else -1


@device_function
def turn_by_quarters(quads, levels, height, width, quarters, first, step):  # type: ignore[no-untyped-def]
    for i in range(first, height * width, step):
        y, x = place_of(i, width)
        if quarters == 1:
            at = np.int32(x * width + width - 1 - y)
        elif quarters == 2:
            at = np.int32(height * width - 1 - i)
        else:
            at = np.int32((height - 1 - x) * width + y)
        red, green, blue = split(quads[np.uint32(at)])
        store_pixel(levels, i, red, green, blue)


@device_function
def _between(before, level, after, second_after, weights):  # type: ignore[no-untyped-def]
    """`pixel.interpolated` of four pixels, three numbers each: three float32."""
    return (
        np.float32(pixel.interpolated(before[0], level[0], after[0], second_after[0], weights)),
        np.float32(pixel.interpolated(before[1], level[1], after[1], second_after[1], weights)),
        np.float32(pixel.interpolated(before[2], level[2], after[2], second_after[2], weights)),
    )


@device_function
def _weights(distance, bicubic):  # type: ignore[no-untyped-def]
    """`pixel.neighbour_weights`; as float32 in the simulator too, where functions return Python's floats."""
    before, after, second_after = pixel.neighbour_weights(np.float32(distance), bicubic)
    return np.float32(before), np.float32(after), np.float32(second_after)


@device_function
def _clamped(index, size):  # type: ignore[no-untyped-def]
    return min(max(np.int32(index), np.int32(0)), np.int32(size - 1))


@device_function
def _on_line(quads, index, size, start, stride, weights):  # type: ignore[no-untyped-def]
    """Between four pixels of a line of `size` pixels, `stride` apart, the second of which is number `index`: three float32."""
    return _between(
        split(quads[np.uint32(start + _clamped(index - 1, size) * stride)]),
        split(quads[np.uint32(start + _clamped(index, size) * stride)]),
        split(quads[np.uint32(start + _clamped(index + 1, size) * stride)]),
        split(quads[np.uint32(start + _clamped(index + 2, size) * stride)]),
        weights,
    )


@device_function
def _first_of_line(term, shift, count):  # type: ignore[no-untyped-def]
    """(whole pixels, rest) that a line moves: of its first pixel that comes from within, which `shift_rows` takes for all."""
    first = first_column(1.0, term, shift, 0.0, count)
    index, rest = pixel.split_coordinate(coordinate_of(1.0, term, shift, first))
    return np.int32(index - np.int32(first)), rest


@device_function
def _turned(x_in, y_in, bicubic, quads, height, width):  # type: ignore[no-untyped-def]
    """Between 16 pixels: three float32."""
    x_index, x_rest = pixel.split_coordinate(x_in)
    y_index, y_rest = pixel.split_coordinate(y_in)
    x_weights = _weights(x_rest, bicubic)
    y_weights = _weights(y_rest, bicubic)
    a = _on_line(quads, y_index, height, _clamped(x_index - 1, width), width, y_weights)
    b = _on_line(quads, y_index, height, _clamped(x_index, width), width, y_weights)
    c = _on_line(quads, y_index, height, _clamped(x_index + 1, width), width, y_weights)
    d = _on_line(quads, y_index, height, _clamped(x_index + 2, width), width, y_weights)
    return _between(a, b, c, d, x_weights)


@device_function
def warp(code, matrix, bicubic, fill, quads, levels, height, width, first, step):  # type: ignore[no-untyped-def]
    """levels = the quads under an `affine_map`, float64 (6,); fill: a quad, for what comes from outside."""
    for i in range(first, height * width, step):
        y, x = place_of(i, width)
        column, row = np.float64(x) + 0.5, np.float64(y) + 0.5
        x_in = pixel.source_coordinate(matrix[0] * column, matrix[1] * row, matrix[2])
        y_in = pixel.source_coordinate(matrix[3] * column, matrix[4] * row, matrix[5])
        if not (0.0 <= x_in < width and 0.0 <= y_in < height):
            red, green, blue = split(fill)
            store_pixel(levels, i, red, green, blue)
            continue
        if code == ROTATE:
            value = _turned(x_in, y_in, bicubic, quads, height, width)
        elif code in (SHEAR_X, TRANSLATE_X):
            shift, rest = _first_of_line(matrix[1] * row, matrix[2], width)
            weights = _weights(rest, bicubic)
            value = _on_line(quads, np.int32(x + shift), width, np.int32(y * width), np.int32(1), weights)
        else:
            if code == SHEAR_Y:
                shift, rest = shift_of_column(matrix[3], x, height)
            else:
                shift, rest = _first_of_line(0.0, matrix[5], height)
            weights = _weights(rest, bicubic)
            value = _on_line(quads, np.int32(y + shift), height, x, width, weights)
        store_pixel(levels, i, pixel.clipped(value[0]), pixel.clipped(value[1]), pixel.clipped(value[2]))
