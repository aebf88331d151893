"""Takes a box of a uint8 image, gives it resized as Pillow resizes it, bit for bit.

Pillow (src/libImaging/Resample.c) resizes in two passes, columns first, each with coefficients in 22-bit fixed point and a
result rounded to uint8. Only the rows and columns that the view shows are computed.
"""

from __future__ import annotations

import math

import numpy as np

from deit_fast.augment.compiled import compiled

BILINEAR = 0
BICUBIC = 1
FILTERS = {"bilinear": BILINEAR, "bicubic": BICUBIC}

_PRECISION_BITS = 22


def scratch_sizes(max_height: int, max_width: int, resolution: int) -> tuple[int, int, int]:
    """Lengths of the scratch arrays of `resample`: (uint8 rows between the passes, int32 coefficients, int32 accumulator).

    An output pixel takes 2 ceil(2 scale) + 1 coefficients at most, and scale x outputs is the input: 4 inputs + 3 outputs.
    """
    coefficients = 4 * (max_height + max_width) + 2 * (5 + 2) * resolution
    return max_height * resolution * 3, coefficients, resolution * 3


@compiled()
def _weight(kind, x):  # type: ignore[no-untyped-def]
    """Pillow's triangle filter, or its cubic convolution filter with a = -0.5."""
    x = abs(x)
    if kind == BILINEAR:
        return 1.0 - x if x < 1.0 else 0.0
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
    support = (1.0 if kind == BILINEAR else 2.0) * filter_scale
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
def _resample_columns(box, y0, y1, bounds, coefficients, stride, rows):  # type: ignore[no-untyped-def]
    """rows[y - y0, x] = row y of the box with its columns resampled; rows (>= y1 - y0, count, 3) uint8."""
    half = np.int32(1 << (_PRECISION_BITS - 1))
    for y in range(y0, y1):
        for x in range(rows.shape[1]):
            low, taps = bounds[2 * x], bounds[2 * x + 1]
            red = green = blue = half
            for k in range(taps):
                weight = coefficients[x * stride + k]
                red += weight * np.int32(box[y, low + k, 0])
                green += weight * np.int32(box[y, low + k, 1])
                blue += weight * np.int32(box[y, low + k, 2])
            rows[y - y0, x, 0] = _to_grey_level(red)
            rows[y - y0, x, 1] = _to_grey_level(green)
            rows[y - y0, x, 2] = _to_grey_level(blue)


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

    image (H, W, 3) uint8; view (height, width, 3) uint8, written; kind BILINEAR or BICUBIC; flipped mirrors it left to
    right. The scratch arrays are of the lengths of `scratch_sizes`, and hold nothing between calls.
    """
    top, left, height, width, full_height, full_width, first_row, first_column = plan
    out_height, out_width = view.shape[0], view.shape[1]
    box = image[top : top + height, left : left + width]

    row_bounds = int_scratch[: 2 * out_height]
    column_bounds = int_scratch[2 * out_height : 2 * (out_height + out_width)]
    coefficients = int_scratch[2 * (out_height + out_width) :]
    row_stride = _coefficients(kind, height, full_height, first_row, out_height, row_bounds, coefficients)
    column_coefficients = coefficients[row_stride * out_height :]
    column_stride = _coefficients(kind, width, full_width, first_column, out_width, column_bounds, column_coefficients)

    y0 = row_bounds[0]
    y1 = row_bounds[2 * out_height - 2] + row_bounds[2 * out_height - 1]
    rows = rows_scratch[: (y1 - y0) * out_width * 3].reshape(y1 - y0, out_width, 3)
    _resample_columns(box, y0, y1, column_bounds, column_coefficients, column_stride, rows)
    _resample_rows(rows, y0, row_bounds, coefficients, row_stride, flipped, accumulator, view)
