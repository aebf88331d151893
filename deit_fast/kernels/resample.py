"""Takes a box of a uint8 image, gives it resized as Pillow resizes it, bit for bit.

Pillow (src/libImaging/Resample.c) resizes in two passes, columns first, each with coefficients in 22-bit fixed point and a
result rounded to uint8. Only the rows and columns that the view shows are computed.

An axis says how one direction of a view is made, as (start, offset, length, limit, full, first): output i of `full` shows the
part of the axis around offset + (i + 0.5) * length / full, in pixels from `start` on; pixels from 0 to limit - 1 there take
part; the view begins at output `first`. Outputs before 0 and from `full` on mirror those within, as padding with
reflection does. start, limit, full, first: int64; offset, length: float64.
"""

from __future__ import annotations

import math

import numpy as np

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.transpose import BLOCK, transpose
from deit_fast.kernels.weigh import PRECISION_BITS, weigh, weigh_transposed

BILINEAR = 0
BICUBIC = 1
BOX = 2
HAMMING = 3
LANCZOS = 4
_HAMMING = (float(np.float32(0.54)), float(np.float32(0.46)))  # single precision, as Pillow writes them
FILTERS = {"bilinear": BILINEAR, "bicubic": BICUBIC, "box": BOX, "hamming": HAMMING, "lanczos": LANCZOS}


def scratch_sizes(max_height: int, max_width: int, max_outputs: int) -> tuple[int, int]:
    """Lengths of the scratch arrays of `resample`: (uint8 rows between the passes and transposed ones, int32 coefficients).

    max_outputs: the larger side of a view, which no `full` of its axes may be below. An output pixel takes 2 bounds and
    2 ceil(3 max(scale, 1)) + 1 coefficients at most (Lanczos), and scale x outputs is the input: 6 inputs + 9 outputs.
    """
    coefficients = 6 * (max_height + max_width) + 2 * (7 + 2) * max_outputs
    rows = max_height * max_outputs * 3 + 3 * BLOCK * (max_width + max_outputs)
    return rows, coefficients


@compiled()
def support(kind):  # type: ignore[no-untyped-def]
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
        return _sinc(x) * (_HAMMING[0] + _HAMMING[1] * math.cos(x * math.pi)) if x < 1.0 else 0.0
    a = -0.5
    if x < 1.0:
        return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    if x < 2.0:
        return (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return 0.0


@compiled()
def shown(index, full):  # type: ignore[no-untyped-def]
    """The output that is shown in place of one that may lie outside 0 to full - 1."""
    if index < 0:
        index = -index
    return index if index < full else 2 * (full - 1) - index


@compiled()
def taps(kind, axis, index):  # type: ignore[no-untyped-def]
    """(first pixel, end of the pixels, centre) of what output `index` sees of an axis; Pillow's rounding."""
    _, offset, length, limit, full, _ = axis
    scale = length / full
    half_width = support(kind) * max(scale, 1.0)
    centre = offset + (index + 0.5) * scale
    low = max(np.int64(centre - half_width + 0.5), np.int64(0))
    return low, min(np.int64(centre + half_width + 0.5), limit), centre


@compiled()
def reach(kind, axis, count):  # type: ignore[no-untyped-def]
    """(first, end) of the pixels, counted from 0 of the image, that a view of `count` outputs of an axis sees."""
    start, _, _, _, full, first = axis
    low, high = max(first, np.int64(0)), min(first + count, full) - 1
    if first < 0:
        high = max(high, -first)
    if first + count > full:
        low = min(low, 2 * full - 1 - first - count)
    return start + taps(kind, axis, low)[0], start + taps(kind, axis, high)[1]


@compiled()
def shrinking(axis):  # type: ignore[no-untyped-def]
    """Factor by which filters are widened along an axis: input pixels for each output, at least 1."""
    return max(axis[2] / axis[4], 1.0)


@compiled()
def most_taps(kind, axis):  # type: ignore[no-untyped-def]
    """Upper bound on input pixels for each output of an axis."""
    return np.int64(math.ceil(support(kind) * shrinking(axis))) * 2 + 1


@compiled()
def most_pixels(kind, axis, count):  # type: ignore[no-untyped-def]
    """Upper bound on input pixels for `count` neighbouring outputs of an axis together."""
    return np.int64(math.ceil((count - 1) * axis[2] / axis[4] + 2.0 * support(kind) * shrinking(axis))) + 1


@compiled()
def weight_at(kind, pixel, centre, reciprocal):  # type: ignore[no-untyped-def]
    """Weight of a pixel for an output, before it is divided by the sum of all; reciprocal: 1 / `shrinking` of the axis."""
    return _weight(kind, (pixel - centre + 0.5) * reciprocal)


@compiled()
def coefficient(weight, total):  # type: ignore[no-untyped-def]
    """int32 in units of 2**-22 from a weight and the sum of all, rounded half away from zero, as Pillow's
    normalize_coeffs_8bpc does."""
    if total != 0.0:
        weight /= total
    weight *= 1 << PRECISION_BITS
    return np.int32(weight - 0.5) if weight < 0 else np.int32(weight + 0.5)


@compiled()
def _coefficients(kind, axis, count, mirrored, bounds, coefficients):  # type: ignore[no-untyped-def]
    """Fills, for each output of a view: bounds (count x (first pixel, number of pixels), flat) and coefficients (count x the
    returned stride). Scratch comes in flat so that the arrays can be of any size."""
    _, _, _, _, full, first = axis
    reciprocal = 1.0 / shrinking(axis)
    stride = most_taps(kind, axis)
    for i in range(count):
        low, high, centre = taps(kind, axis, shown(first + (count - 1 - i if mirrored else i), full))
        total = 0.0
        for k in range(high - low):
            total += weight_at(kind, low + k, centre, reciprocal)
        for k in range(high - low):
            coefficients[i * stride + k] = coefficient(weight_at(kind, low + k, centre, reciprocal), total)
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
    """view = what two axes show of image, resampled; equals Pillow's crop, resize and crop bit for bit.

    image (H, W, 3) uint8, contiguous, of which axes may see all pixels in their `reach`; view (height, width, 3) uint8,
    contiguous, written; kind: one of FILTERS; mirrored: left to right. The scratch arrays are of the lengths of
    `scratch_sizes`, and hold nothing between calls.
    """
    out_height, out_width = view.shape[0], view.shape[1]
    row_bounds = int_scratch[: 2 * out_height]
    column_bounds = int_scratch[2 * out_height : 2 * (out_height + out_width)]
    coefficients = int_scratch[2 * (out_height + out_width) :]
    row_stride = _coefficients(kind, vertical, out_height, False, row_bounds, coefficients)
    column_coefficients = coefficients[row_stride * out_height :]
    column_stride = _coefficients(kind, horizontal, out_width, mirrored, column_bounds, column_coefficients)

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


def resize(
    image: np.ndarray, height: int, width: int, kind: int = BICUBIC, box: tuple[float, float, float, float] | None = None
) -> np.ndarray:
    """(height, width, 3) uint8: Pillow's `resize((width, height), box=box)` of image (H, W, 3) uint8, bit for bit.

    box: left, upper, right and lower edge in pixels, the whole image by default; pixels around it take part.
    """
    # Pillow holds a box in single precision, and subtracts its edges there
    left, upper, right, lower = (np.float32(edge) for edge in box or (0, 0, image.shape[1], image.shape[0]))
    vertical = (0, float(upper), float(lower - upper), image.shape[0], height, 0)
    horizontal = (0, float(left), float(right - left), image.shape[1], width, 0)
    sizes = scratch_sizes(image.shape[0], image.shape[1], max(height, width))
    rows, integers = (np.empty(size, dtype) for size, dtype in zip(sizes, (np.uint8, np.int32), strict=True))
    view = np.empty((height, width, 3), np.uint8)
    resample(np.ascontiguousarray(image), vertical, horizontal, kind, False, rows, integers, view)
    return view
