"""What an output of resampling sees of an axis, and with which weights: Pillow's filters and rounding.

An axis says how one direction of a view is made, as (start, offset, length, limit, full, first): output i of `full` shows the
part of the axis around offset + (i + 0.5) * length / full, in pixels from `start` on; pixels from 0 to limit - 1 there take
part; the view begins at output `first`. Outputs before 0 and from `full` on mirror those within, as padding with
reflection does. start, limit, full, first: int64; offset, length: float64.
"""

from __future__ import annotations

import math

import numpy as np

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.weigh import PRECISION_BITS

BILINEAR = 0
BICUBIC = 1
BOX = 2
HAMMING = 3
LANCZOS = 4
_HAMMING = (float(np.float32(0.54)), float(np.float32(0.46)))  # single precision, as Pillow writes them
FILTERS = {"bilinear": BILINEAR, "bicubic": BICUBIC, "box": BOX, "hamming": HAMMING, "lanczos": LANCZOS}


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
def _cubic(x):  # type: ignore[no-untyped-def]
    """Cubic convolution with a = -0.5."""
    a = -0.5
    x = abs(x)
    near, far = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0, (((x - 5.0) * x + 8.0) * x - 4.0) * a
    return near if x < 1.0 else (far if x < 2.0 else 0.0)


@compiled()
def _triangle(x):  # type: ignore[no-untyped-def]
    x = abs(x)
    return 1.0 - x if x < 1.0 else 0.0


@compiled()
def _weight(kind, x):  # type: ignore[no-untyped-def]
    """Pillow's filters."""
    if kind == BICUBIC:
        return _cubic(x)
    if kind == BILINEAR:
        return _triangle(x)
    if kind == BOX:
        return 1.0 if -0.5 < x <= 0.5 else 0.0
    if kind == LANCZOS:
        return _sinc(x) * _sinc(x / 3.0) if -3.0 <= x < 3.0 else 0.0
    x = abs(x)
    if x == 0.0:
        return 1.0
    return _sinc(x) * (_HAMMING[0] + _HAMMING[1] * math.cos(x * math.pi)) if x < 1.0 else 0.0


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
def _distance(pixel, centre, reciprocal):  # type: ignore[no-untyped-def]
    return (pixel - centre + 0.5) * reciprocal


@compiled()
def weight_at(kind, pixel, centre, reciprocal):  # type: ignore[no-untyped-def]
    """Weight of a pixel for an output, before it is divided by the sum of all; reciprocal: 1 / `shrinking` of the axis."""
    return _weight(kind, _distance(pixel, centre, reciprocal))


@compiled()
def weights_from(kind, low, count, centre, reciprocal, weights):  # type: ignore[no-untyped-def]
    """weights[k] = weight_at(kind, low + k, centre, reciprocal) for k < count; the common filters in loops of their own, which
    become vectors."""
    if kind == BICUBIC:
        for k in range(count):
            weights[k] = _cubic(_distance(low + k, centre, reciprocal))
    elif kind == BILINEAR:
        for k in range(count):
            weights[k] = _triangle(_distance(low + k, centre, reciprocal))
    else:
        for k in range(count):
            weights[k] = weight_at(kind, low + k, centre, reciprocal)


@compiled()
def coefficient(weight, total):  # type: ignore[no-untyped-def]
    """int32 in units of 2**-22 from a weight and the sum of all, rounded half away from zero, as Pillow's
    normalize_coeffs_8bpc does."""
    if total != 0.0:
        weight /= total
    weight *= 1 << PRECISION_BITS
    return np.int32(weight - 0.5) if weight < 0 else np.int32(weight + 0.5)
