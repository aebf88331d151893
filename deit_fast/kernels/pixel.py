"""What each operation does to a pixel.

Functions of scalars alone, for CPU loops and CUDA kernels. They reproduce Pillow (src/libImaging and ImageOps.py) bit for bit,
but for the interpolation, which is done here in float32 and there in float64. At most one level, in about 4 bytes of 100,000;
in up to 5 of 100 where the shift is a round fraction of a pixel and the filter bilinear, since many results then are whole
numbers, and Pillow's rounding errors decide on which side it cuts them.
Grey levels come as any integers, and leave as int32 0 to 255.
"""

from __future__ import annotations

import math

import numpy as np

from deit_fast.kernels.compiled import compiled

_BOX_HALF = np.uint32(1 << 23)
_BOX_SHIFT = np.uint32(24)


@compiled()
def inverted(level):  # type: ignore[no-untyped-def]
    """ImageOps.invert."""
    return np.int32(255 - np.int32(level))


@compiled()
def solarized(level, argument):  # type: ignore[no-untyped-def]
    """ImageOps.solarize: inverted from the threshold on."""
    threshold = np.int32(math.ceil(min(max(argument, 0.0), 256.0)))
    return inverted(level) if np.int32(level) >= threshold else np.int32(level)


@compiled()
def solarize_added(level, argument):  # type: ignore[no-untyped-def]
    """timm's solarize_add: so much more if below 128."""
    level = np.int32(level)
    return np.int32(min(max(level + np.int32(argument), 0), 255)) if level < 128 else level


@compiled()
def posterized(level, argument):  # type: ignore[no-untyped-def]
    """ImageOps.posterize: so many of the upper bits are kept."""
    mask = np.int32(256 - (1 << (8 - min(max(np.int64(argument), 0), 8))))
    return np.int32(np.int32(level) & mask)


@compiled()
def brightened(level, argument):  # type: ignore[no-untyped-def]
    """ImageEnhance.Brightness."""
    return blended(np.int32(0), level, np.float32(argument))


@compiled()
def contrast_line(low, high):  # type: ignore[no-untyped-def]
    """(scale, offset) for `stretched`, of a channel whose levels go from low to high."""
    if high <= low:
        return 1.0, 0.0
    scale = 255.0 / (high - low)
    return scale, -low * scale


@compiled()
def stretched(level, scale, offset):  # type: ignore[no-untyped-def]
    """ImageOps.autocontrast, of a level that occurs in the channel."""
    return np.int32(min(max(np.int32(np.float64(level) * scale + offset), 0), 255))


@compiled()
def equalize_step(num_pixels, num_brightest):  # type: ignore[no-untyped-def]
    """Pixels for each level after ImageOps.equalize, of all and of those of the brightest level; 0: all stays as it is."""
    return (np.int64(num_pixels) - np.int64(num_brightest)) // 255


@compiled()
def equalized(num_darker, step):  # type: ignore[no-untyped-def]
    """ImageOps.equalize: the new level, from how many pixels are darker; step > 0."""
    return np.int32(min((step // 2 + np.int64(num_darker)) // step, 255))


@compiled()
def luma(red, green, blue):  # type: ignore[no-untyped-def]
    """convert("L")."""
    total = np.int32(red) * 19595 + np.int32(green) * 38470 + np.int32(blue) * 7471 + 32768
    return np.int32(np.uint32(total) >> np.uint32(16))


@compiled()
def mean_level(total, count):  # type: ignore[no-untyped-def]
    """The grey that ImageEnhance.Contrast blends with: the mean of `count` lumas, of which the sum is `total`."""
    return np.int32(np.float64(total) / np.float64(count) + 0.5)


@compiled()
def blended(degenerate, level, factor):  # type: ignore[no-untyped-def]
    """Image.blend(degenerate, image, factor): factor float32, 0 gives degenerate and 1 level; also outside of that."""
    base = np.float32(np.int32(degenerate))
    value = base + factor * np.float32(np.int32(np.int32(level) - np.int32(degenerate)))
    return clipped(value)


@compiled()
def clipped(value):  # type: ignore[no-untyped-def]
    """A float32 cut to an integer, then to 0 to 255."""
    return np.int32(min(max(np.int32(value), np.int32(0)), np.int32(255)))


@compiled()
def smoothed(nine, centre):  # type: ignore[no-untyped-def]
    """ImageFilter.SMOOTH: from the sum of a pixel and its eight neighbours, and the pixel.

    Pillow sums weights of 1/13 and 5/13 in float32 and rounds. Multiples of 1/13 lie at least 1/26 from where that changes.
    n // 13 is n * 5042 >> 16 for all n that occur. In 16 bits, since twice as many fit into a vector as of 32.
    """
    total = np.uint16(np.uint16(nine) + np.uint16(np.uint16(4) * np.uint16(centre)) + np.uint16(6))
    return np.uint16(np.uint32(np.uint32(total) * np.uint32(5042)) >> np.uint32(16))


@compiled()
def box_weights(sigma):  # type: ignore[no-untyped-def]
    """(radius, weight within it, weight of the two pixels beyond) of the boxes of ImageFilter.GaussianBlur(sigma).

    Three boxes after each other; radius int64, weights uint32 in units of 2^-24. Radius 0 and weight 2^24: no blur.
    After src/libImaging/BoxBlur.c, in float32 as there.
    """
    one, two, three, six = np.float32(1), np.float32(2), np.float32(3), np.float32(6)
    sigma = np.float32(sigma)
    variance = sigma * sigma / three
    length = np.float32(math.sqrt(12.0 * np.float64(variance) + 1.0))
    whole = np.float32(math.floor((np.float64(length) - 1.0) / 2.0))
    part = (two * whole + one) * (whole * (whole + one) - three * variance)
    part /= six * (variance - (whole + one) * (whole + one))
    radius = whole + part
    whole_radius = np.int64(radius)
    weight = np.int64(np.float32(1 << 24) / (radius * two + one))
    end_weight = ((1 << 24) - (2 * whole_radius + 1) * weight) // 2
    return whole_radius, np.uint32(weight), np.uint32(end_weight)


@compiled()
def boxed(total, ends, weight, end_weight):  # type: ignore[no-untyped-def]
    """One box of `box_weights`: from the sum within the radius and the sum of the two pixels beyond."""
    weighted = np.uint32(np.uint32(total) * weight + np.uint32(ends) * end_weight)
    return np.int32(np.uint32(weighted + _BOX_HALF) >> _BOX_SHIFT)


@compiled()
def source_coordinate(column_term, row_term, offset):  # type: ignore[no-untyped-def]
    """Where an affine map puts the centre of a pixel, on one axis, float64; Pillow adds in this order.

    The terms are the coefficients of column and row times (column + 0.5) and (row + 0.5).
    """
    return column_term + row_term + offset


@compiled()
def split_coordinate(coordinate):  # type: ignore[no-untyped-def]
    """(index of the pixel whose centre is at or before a coordinate, float32 distance from it)."""
    shifted = coordinate - 0.5
    index = np.int32(shifted)  # not math.floor: its int64 is not made a vector without AVX-512
    if np.float64(index) > shifted:
        index = np.int32(index - 1)
    return index, np.float32(shifted - np.float64(index))


@compiled()
def neighbour_weights(distance, bicubic):  # type: ignore[no-untyped-def]
    """Weights of the pixel before, the one after and the one after that, for `interpolated`, all float32.

    bicubic: cubic convolution with a = -1, as Pillow's affine maps have it; otherwise linear.
    """
    zero, one = np.float32(0), np.float32(1)
    if not bicubic:
        return zero, distance, zero
    rest = one - distance
    return -distance * rest * rest, distance * (one + distance * rest), -distance * distance * rest


@compiled()
def interpolated(before, level, after, second_after, weights):  # type: ignore[no-untyped-def]
    """Between a pixel and the one after, float32. The weights go with differences: where all are equal, so is the result."""
    base = np.float32(level)
    value = base + weights[0] * (np.float32(before) - base)
    value += weights[1] * (np.float32(after) - base)
    value += weights[2] * (np.float32(second_after) - base)
    return value
