"""Resampling one byte at a time, for any processor, any filter and views of any size."""

from __future__ import annotations

import numpy as np
from numba import carray

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.filters import coefficient, most_taps, shown, shrinking, taps, weights_from
from deit_fast.kernels.transpose import BLOCK, transpose, void_pointer
from deit_fast.kernels.weigh import weigh, weigh_transposed


def scratch_sizes(max_height: int, max_width: int, max_outputs: int, most_taps: int) -> tuple[int, int]:
    """Lengths of the scratch arrays of `resample`, as in `kernels.resample`; most_taps: upper bound on pixels for an output.

    An output pixel takes 2 bounds and 2 ceil(3 max(scale, 1)) + 1 coefficients at most (Lanczos), and scale x outputs is the
    input: 6 inputs + 9 outputs, behind the float64 weights of one output.
    """
    coefficients = 6 * (max_height + max_width) + 2 * (7 + 2) * max_outputs
    rows = max_height * max_outputs * 3 + 3 * BLOCK * (max_width + max_outputs)
    return rows, 2 * most_taps + 1 + coefficients


@compiled()
def _coefficients(kind, axis, count, mirrored, weights, bounds, coefficients):  # type: ignore[no-untyped-def]
    """Fills, for each output of a view: bounds (count x (first pixel, number of pixels), flat) and coefficients (count x the
    returned stride). Scratch comes in flat so that the arrays can be of any size; weights (>= stride,) float64."""
    _, _, _, _, full, first = axis
    reciprocal = 1.0 / shrinking(axis)
    stride = most_taps(kind, axis)
    for i in range(count):
        low, high, centre = taps(kind, axis, shown(first + (count - 1 - i if mirrored else i), full))
        weights_from(kind, low, high - low, centre, reciprocal, weights)
        total = 0.0
        for k in range(high - low):
            total += weights[k]
        for k in range(high - low):
            coefficients[i * stride + k] = coefficient(weights[k], total)
        bounds[2 * i] = low
        bounds[2 * i + 1] = high - low
    return stride


@compiled()
def _extent(bounds, count):  # type: ignore[no-untyped-def]
    """(first, end) of the pixels that any output sees."""
    low, high = bounds[0], bounds[0] + bounds[1]
    for i in range(1, count):
        low = min(low, bounds[2 * i])
        high = max(high, bounds[2 * i] + bounds[2 * i + 1])
    return np.int64(low), np.int64(high)


@compiled()
def _resample_columns(image, top, left, y0, y1, count, bounds, coefficients, stride, scratch, rows):  # type: ignore[no-untyped-def]
    """Row y - y0 of rows = row top + y of the image with its columns from left on resampled; rows (y1 - y0, 3 count), flat.

    Sixteen rows at a time are transposed, so that what is multiplied by one coefficient lies side by side: 48 values, which are
    three vectors. scratch: (48 * (columns that bounds speak of + count),) uint8.
    """
    image_width = image.shape[1]
    start = image.reshape(image.size).ctypes.data  # which Numba refuses for an array that is not contiguous
    first, last = _extent(bounds, count)
    width = 3 * BLOCK
    tile = scratch.ctypes.data
    transposed = tile + (last - first) * width
    weights = coefficients.ctypes.data
    for y in range(y0, y1, BLOCK):
        num_rows = min(BLOCK, y1 - y)
        source = start + 3 * ((top + y) * image_width + left + first)
        transpose(source, 3 * image_width, num_rows, 3 * (last - first), tile, BLOCK)
        for x in range(count):
            low, taps = np.int64(bounds[2 * x]) - first, np.int64(bounds[2 * x + 1])
            weigh_transposed(tile + low * width, width, weights + 4 * x * stride, taps, transposed + x * width)
        transpose(transposed, BLOCK, 3 * count, num_rows, rows.ctypes.data + (y - y0) * 3 * count, 3 * count)


@compiled()
def resample(image, vertical, horizontal, kind, mirrored, rows_scratch, int_scratch, view):  # type: ignore[no-untyped-def]
    """`kernels.resample.resample`."""
    out_height, out_width = view.shape[0], view.shape[1]
    most = max(most_taps(kind, vertical), most_taps(kind, horizontal))
    weights = carray(void_pointer(int_scratch.ctypes.data + (int_scratch.ctypes.data & 4)), (most,), np.float64)
    integers = int_scratch[2 * most + 1 :]
    row_bounds = integers[: 2 * out_height]
    column_bounds = integers[2 * out_height : 2 * (out_height + out_width)]
    coefficients = integers[2 * (out_height + out_width) :]
    row_stride = _coefficients(kind, vertical, out_height, False, weights, row_bounds, coefficients)
    column_coefficients = coefficients[row_stride * out_height :]
    column_stride = _coefficients(kind, horizontal, out_width, mirrored, weights, column_bounds, column_coefficients)

    y0, y1 = _extent(row_bounds, out_height)
    length = 3 * out_width
    rows, scratch = rows_scratch, rows_scratch[(y1 - y0) * length :]
    _resample_columns(
        image, vertical[0], horizontal[0], y0, y1, out_width, column_bounds, column_coefficients, column_stride, scratch, rows
    )
    for y in range(out_height):
        source = rows.ctypes.data + (row_bounds[2 * y] - y0) * length
        weights = coefficients.ctypes.data + 4 * y * row_stride
        weigh(source, length, weights, np.int64(row_bounds[2 * y + 1]), view.ctypes.data + y * length, length)
