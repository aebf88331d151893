"""Takes a view as bytes, gives its pixels as quads, one uint32 each, and pixels that are made from neighbours in such quads.

For one of the threads of a block: number `first` of `step`. A quad holds red in its lowest byte, then green and blue: one load
instead of three. All indices are int32 and then unsigned, which need no check for what counts from the end.
"""

from __future__ import annotations

import numpy as np

from deit_fast.kernels import pixel
from deit_fast.kernels.cuda.driver import device_function

_BYTE = np.uint32(255)
_GREEN = np.uint32(8)
_BLUE = np.uint32(16)


@device_function
def place_of(i, width):  # type: ignore[no-untyped-def]
    """(row, column) of pixel i, int32; divided without sign, which is quicker."""
    y = np.int32(np.uint32(i) // np.uint32(width))
    return y, np.int32(i - y * width)


@device_function
def load_pixel(levels, i):  # type: ignore[no-untyped-def]
    """Red, green and blue of pixel i of a view (3 H W,) uint8, as uint8."""
    at = np.int32(3 * i)
    return levels[np.uint32(at)], levels[np.uint32(at + 1)], levels[np.uint32(at + 2)]


@device_function
def store_pixel(levels, i, red, green, blue):  # type: ignore[no-untyped-def]
    at = np.int32(3 * i)
    levels[np.uint32(at)], levels[np.uint32(at + 1)], levels[np.uint32(at + 2)] = np.uint8(red), np.uint8(green), np.uint8(blue)


@device_function
def quad_of(red, green, blue):  # type: ignore[no-untyped-def]
    return np.uint32(np.uint32(red) | np.uint32(np.uint32(green) << _GREEN) | np.uint32(np.uint32(blue) << _BLUE))


@device_function
def split(quad):  # type: ignore[no-untyped-def]
    """Red, green and blue as uint32."""
    return np.uint32(quad & _BYTE), np.uint32(np.uint32(quad >> _GREEN) & _BYTE), np.uint32(np.uint32(quad >> _BLUE) & _BYTE)


@device_function
def copy_to_quads(levels, quads, count, first, step):  # type: ignore[no-untyped-def]
    for i in range(first, count, step):
        red, green, blue = load_pixel(levels, i)
        quads[np.uint32(i)] = quad_of(red, green, blue)


@device_function
def sharpen(quads, levels, height, width, factor, first, step):  # type: ignore[no-untyped-def]
    """levels = the sharpened quads; the outermost rows and columns stay as they are."""
    for i in range(first, height * width, step):
        y, x = place_of(i, width)
        if y < 1 or y >= height - 1 or x < 1 or x >= width - 1:
            continue
        reds, greens, blues = np.uint32(0), np.uint32(0), np.uint32(0)
        for row in range(3):
            at = np.int32(i + (row - 1) * width - 1)
            for column in range(3):
                red, green, blue = split(quads[np.uint32(at + column)])
                reds, greens, blues = np.uint32(reds + red), np.uint32(greens + green), np.uint32(blues + blue)
        red, green, blue = split(quads[np.uint32(i)])
        store_pixel(
            levels,
            i,
            pixel.blended(pixel.smoothed(reds, red), red, factor),
            pixel.blended(pixel.smoothed(greens, green), green, factor),
            pixel.blended(pixel.smoothed(blues, blue), blue, factor),
        )


@device_function
def _pixel_of(levels, quads, in_quads, i):  # type: ignore[no-untyped-def]
    if in_quads:
        return split(quads[np.uint32(i)])
    red, green, blue = load_pixel(levels, i)
    return np.uint32(red), np.uint32(green), np.uint32(blue)


@device_function
def box(levels, quads, in_quads, height, width, down, weights, first, step):  # type: ignore[no-untyped-def]
    """One box of a blur, from quads to levels where the pixels are `in_quads`, else from levels to quads.

    down: along columns, else along rows; weights: of `pixel.box_weights`.
    """
    radius, weight, end_weight = np.int32(weights[0]), np.uint32(weights[1]), np.uint32(weights[2])
    size, stride = np.int32(height if down else width), np.int32(width if down else 1)
    for i in range(first, height * width, step):
        y, x = place_of(i, width)
        place = y if down else x
        start = np.int32(i - place * stride)
        reds, greens, blues = np.uint32(0), np.uint32(0), np.uint32(0)
        for offset in range(-radius, radius + 1):
            at = np.int32(start + min(max(np.int32(place + offset), np.int32(0)), np.int32(size - 1)) * stride)
            red, green, blue = _pixel_of(levels, quads, in_quads, at)
            reds, greens, blues = np.uint32(reds + red), np.uint32(greens + green), np.uint32(blues + blue)
        before = np.int32(start + max(np.int32(place - radius - 1), np.int32(0)) * stride)
        after = np.int32(start + min(np.int32(place + radius + 1), np.int32(size - 1)) * stride)
        red, green, blue = _pixel_of(levels, quads, in_quads, before)
        other_red, other_green, other_blue = _pixel_of(levels, quads, in_quads, after)
        red = pixel.boxed(reds, np.uint32(red + other_red), weight, end_weight)
        green = pixel.boxed(greens, np.uint32(green + other_green), weight, end_weight)
        blue = pixel.boxed(blues, np.uint32(blue + other_blue), weight, end_weight)
        if in_quads:
            store_pixel(levels, i, red, green, blue)
        else:
            quads[np.uint32(i)] = quad_of(red, green, blue)
