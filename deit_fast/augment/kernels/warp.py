"""Takes a view as quads, gives it rotated, sheared or shifted: `augment.warp` and `augment.rotation` on the GPU.

Each pixel by the scalar definitions alone: its place in float64, the interpolation in float32, first between rows, then between
columns. Where a map leaves one of the two as it is, the weights are zeros and change nothing: those operations skip it.
"""

from __future__ import annotations

import numpy as np

from deit_fast.augment import operation_codes as codes
from deit_fast.augment import pixel
from deit_fast.augment.cuda import device_function
from deit_fast.augment.kernels.quads import split, store_pixel

_WITHIN_ROWS = (codes.SHEAR_X, codes.TRANSLATE_X)
_WITHIN_COLUMNS = (codes.SHEAR_Y, codes.TRANSLATE_Y)


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
        y = np.int32(i // width)
        x = np.int32(i - y * width)
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
    """`pixel.interpolated` of four quads: three float32."""
    a, b, c, d = split(before), split(level), split(after), split(second_after)
    return (
        pixel.interpolated(a[0], b[0], c[0], d[0], weights),
        pixel.interpolated(a[1], b[1], c[1], d[1], weights),
        pixel.interpolated(a[2], b[2], c[2], d[2], weights),
    )


@device_function
def _clamped(index, size):  # type: ignore[no-untyped-def]
    return min(max(np.int32(index), np.int32(0)), np.int32(size - 1))


@device_function
def _on_line(quads, index, size, start, stride, weights):  # type: ignore[no-untyped-def]
    """Between four pixels of a line of `size` pixels, `stride` apart, the second of which is number `index`: three float32."""
    return _between(
        quads[np.uint32(start + _clamped(index - 1, size) * stride)],
        quads[np.uint32(start + _clamped(index, size) * stride)],
        quads[np.uint32(start + _clamped(index + 1, size) * stride)],
        quads[np.uint32(start + _clamped(index + 2, size) * stride)],
        weights,
    )


@device_function
def warp(code, matrix, bicubic, fill, quads, levels, height, width, first, step):  # type: ignore[no-untyped-def]
    """levels = the quads under a map of `rotation.affine_map`, float64 (6,); fill: a quad, for what comes from outside."""
    one = np.int32(1)
    for i in range(first, height * width, step):
        y = np.int32(i // width)
        x = np.int32(i - y * width)
        column, row = np.float64(x) + 0.5, np.float64(y) + 0.5
        x_in = pixel.source_coordinate(matrix[0] * column, matrix[1] * row, matrix[2])
        y_in = pixel.source_coordinate(matrix[3] * column, matrix[4] * row, matrix[5])
        if not (0.0 <= x_in < width and 0.0 <= y_in < height):
            red, green, blue = split(fill)
            store_pixel(levels, i, red, green, blue)
            continue
        x_index, x_rest = pixel.split_coordinate(x_in)
        y_index, y_rest = pixel.split_coordinate(y_in)
        x_weights = pixel.neighbour_weights(x_rest, bicubic)
        y_weights = pixel.neighbour_weights(y_rest, bicubic)
        if code in _WITHIN_ROWS:
            value = _on_line(quads, x_index, width, np.int32(y * width), one, x_weights)
        elif code in _WITHIN_COLUMNS:
            value = _on_line(quads, y_index, height, x, width, y_weights)
        else:
            a = _on_line(quads, y_index, height, _clamped(x_index - 1, width), width, y_weights)
            b = _on_line(quads, y_index, height, _clamped(x_index, width), width, y_weights)
            c = _on_line(quads, y_index, height, _clamped(x_index + 1, width), width, y_weights)
            d = _on_line(quads, y_index, height, _clamped(x_index + 2, width), width, y_weights)
            value = (
                pixel.interpolated(a[0], b[0], c[0], d[0], x_weights),
                pixel.interpolated(a[1], b[1], c[1], d[1], x_weights),
                pixel.interpolated(a[2], b[2], c[2], d[2], x_weights),
            )
        store_pixel(levels, i, pixel.clipped(value[0]), pixel.clipped(value[1]), pixel.clipped(value[2]))
