"""Takes a box of a uint8 image, gives it resized as Pillow resizes it, bit for bit.

Pillow (src/libImaging/Resample.c) resizes in two passes, columns first, each with coefficients in 22-bit fixed point and a
result rounded to uint8. Only the rows and columns that the view shows are computed.
"""

from __future__ import annotations

import math

import numpy as np

from deit_fast.augment.compiled import compiled
from deit_fast.augment.turn import BLOCK, turn

BILINEAR = 0
BICUBIC = 1
BOX = 2
HAMMING = 3
LANCZOS = 4
FILTERS = {"bilinear": BILINEAR, "bicubic": BICUBIC, "box": BOX, "hamming": HAMMING, "lanczos": LANCZOS}

_PRECISION_BITS = 22


def scratch_sizes(max_height: int, max_width: int, max_outputs: int) -> tuple[int, int, int]:
    """Lengths of the scratch arrays of `resample`: (uint8 rows between the passes, int32 coefficients, int32 accumulator).

    max_outputs: the larger side of a view. An output pixel takes 2 bounds and 2 ceil(3 max(scale, 1)) + 1 coefficients
    at most (Lanczos), and scale x outputs is the input: 6 inputs + 9 outputs.
    """
    coefficients = 6 * (max_height + max_width) + 2 * (7 + 2) * max_outputs
    rows = max_height * max_outputs * 3 + 3 * BLOCK * (max_width + max_outputs)
    return rows, coefficients, max(max_outputs * 3, 3 * BLOCK)


@compiled()
def _support(kind):  # type: ignore[no-untyped-def]
    """Half the width of a filter, in input pixels at scale 1."""
    if kind == BOX:
        return 0.5
    if kind == BICUBIC:
        return 2.0
    return 3.0 if kind == LANCZOS else 1.0


@compiled()
def _sinc(x):  # type: ignore[no-untyped-def]
    return math.sin(x * math.pi) / (x * math.pi) if x != 0.0 else 1.0


@compiled()
def _weight(kind, x):  # type: ignore[no-untyped-def]
    """Pillow's filters: box, triangle, Hamming, cubic convolution with a = -0.5, Lanczos with three lobes."""
    if kind == BOX:
        return 1.0 if -0.5 < x <= 0.5 else 0.0
    if kind == LANCZOS:
        return _sinc(x) * _sinc(x / 3.0) if -3.0 <= x < 3.0 else 0.0
    x = abs(x)
    if kind == BILINEAR:
        return 1.0 - x if x < 1.0 else 0.0
    if kind == HAMMING:
        if x == 0.0:
            return 1.0
        return _sinc(x) * (0.54 + 0.46 * math.cos(x * math.pi)) if x < 1.0 else 0.0
    a = -0.5
    if x < 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    if x < 2.0:
        return (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return 0.0


@compiled()
def _coefficients(kind, in_size, out_size, first, count, bounds, coefficients):  # type: ignore[no-untyped-def]
    """Fills, for outputs first to first + count - 1: bounds (count x (first input, number of inputs), flat) and
    coefficients (count x the returned stride). Scratch comes in flat so that the arrays can be of any size."""
    scale = in_size / out_size
    filter_scale = max(scale, 1.0)
    support = _support(kind) * filter_scale
    stride = np.int64(math.ceil(support)) * 2 + 1
    for i in range(count):
        centre = (first + i + 0.5) * scale
        low = max(np.int64(centre - support + 0.5), np.int64(0))
        taps = min(np.int64(centre + support + 0.5), np.int64(in_size)) - low
        total = 0.0
        for k in range(taps):
            total += _weight(kind, (k + low - centre + 0.5) * (1.0 / filter_scale))
        for k in range(taps):
            weight = _weight(kind, (k + low - centre + 0.5) * (1.0 / filter_scale))
            if total != 0.0:
                weight /= total
            # rounded half away from zero, as Pillow's normalize_coeffs_8bpc does
            weight *= 1 << _PRECISION_BITS
            coefficients[i * stride + k] = np.int32(weight - 0.5) if weight < 0 else np.int32(weight + 0.5)
        bounds[2 * i] = low
        bounds[2 * i + 1] = taps
    return stride


@compiled()
def _to_grey_level(accumulated):  # type: ignore[no-untyped-def]
    return np.uint8(min(max(accumulated >> _PRECISION_BITS, 0), 255))


@compiled()
def _resample_columns(image, top, left, y0, y1, bounds, coefficients, stride, scratch, accumulator, rows):  # type: ignore[no-untyped-def]
    """rows[y - y0, x] = row top + y of the image with its columns from left on resampled; rows (y1 - y0, count, 3) uint8.

    Sixteen rows at a time are turned, so that what is multiplied by one coefficient lies side by side: 48 values, which
    LLVM takes as vectors. scratch: (16 * 3 * (columns that bounds speak of + count),) uint8.
    """
    num_outputs, image_width = rows.shape[1], image.shape[1]
    start = image.reshape(image.size).ctypes.data  # which Numba refuses for an array that is not contiguous
    first, last = bounds[0], bounds[2 * num_outputs - 2] + bounds[2 * num_outputs - 1]
    width = 3 * BLOCK
    tile, turned = scratch[: (last - first) * width], scratch[(last - first) * width :]
    sums = accumulator[:width]
    for y in range(y0, y1, BLOCK):
        num_rows = min(BLOCK, y1 - y)
        source = start + 3 * ((top + y) * image_width + left + first)
        turn(source, 3 * image_width, num_rows, 3 * (last - first), tile.ctypes.data, BLOCK)
        for x in range(num_outputs):
            low, taps = bounds[2 * x] - first, bounds[2 * x + 1]
            sums[:] = 1 << (_PRECISION_BITS - 1)
            # four taps at a time: the sums lie in memory, and would be waited for once a tap
            for k in range(0, taps - 3, 4):
                weight0, weight1 = coefficients[x * stride + k], coefficients[x * stride + k + 1]
                weight2, weight3 = coefficients[x * stride + k + 2], coefficients[x * stride + k + 3]
                values = tile[(low + k) * width : (low + k + 4) * width]
                for i in range(width):
                    first_two = weight0 * np.int32(values[i]) + weight1 * np.int32(values[width + i])
                    last_two = weight2 * np.int32(values[2 * width + i]) + weight3 * np.int32(values[3 * width + i])
                    sums[i] += first_two + last_two
            for k in range(taps - taps % 4, taps):
                weight = coefficients[x * stride + k]
                values = tile[(low + k) * width : (low + k + 1) * width]
                for i in range(width):
                    sums[i] += weight * np.int32(values[i])
            levels = turned[x * width : (x + 1) * width]
            for i in range(width):
                levels[i] = _to_grey_level(sums[i])
        target = rows.ctypes.data + (y - y0) * 3 * num_outputs
        turn(turned.ctypes.data, BLOCK, 3 * num_outputs, num_rows, target, 3 * num_outputs)


@compiled()
def _resample_rows(rows, y0, bounds, coefficients, stride, flipped, accumulator, view):  # type: ignore[no-untyped-def]
    """view = rows resampled, mirrored if asked. The sum runs along whole rows, which LLVM vectorises."""
    height, width = view.shape[0], view.shape[1]
    for y in range(height):
        low, taps = bounds[2 * y] - y0, bounds[2 * y + 1]
        accumulator[: width * 3] = 1 << (_PRECISION_BITS - 1)
        for k in range(taps):
            weight = coefficients[y * stride + k]
            row = rows[low + k].reshape(width * 3)
            for i in range(width * 3):
                accumulator[i] += weight * np.int32(row[i])
        for x in range(width):
            target = width - 1 - x if flipped else x
            for channel in range(3):
                view[y, target, channel] = _to_grey_level(accumulator[3 * x + channel])


@compiled()
def resample(image, plan, kind, flipped, rows_scratch, int_scratch, accumulator, view):  # type: ignore[no-untyped-def]
    """view = what plan (see `augment.crop`) shows of image, resampled; equals Pillow's crop, resize and crop bit for bit.

    image (H, W, 3) uint8, contiguous; view (height, width, 3) uint8, written; kind: one of FILTERS; flipped mirrors it left to
    right. The scratch arrays are of the lengths of `scratch_sizes`, and hold nothing between calls.
    """
    top, left, height, width, full_height, full_width, first_row, first_column = plan
    out_height, out_width = view.shape[0], view.shape[1]

    row_bounds = int_scratch[: 2 * out_height]
    column_bounds = int_scratch[2 * out_height : 2 * (out_height + out_width)]
    coefficients = int_scratch[2 * (out_height + out_width) :]
    row_stride = _coefficients(kind, height, full_height, first_row, out_height, row_bounds, coefficients)
    column_coefficients = coefficients[row_stride * out_height :]
    column_stride = _coefficients(kind, width, full_width, first_column, out_width, column_bounds, column_coefficients)

    y0 = row_bounds[0]
    y1 = row_bounds[2 * out_height - 2] + row_bounds[2 * out_height - 1]
    rows = rows_scratch[: (y1 - y0) * out_width * 3].reshape(y1 - y0, out_width, 3)
    scratch = rows_scratch[rows.size :]
    _resample_columns(image, top, left, y0, y1, column_bounds, column_coefficients, column_stride, scratch, accumulator, rows)
    _resample_rows(rows, y0, row_bounds, coefficients, row_stride, flipped, accumulator, view)
