"""Takes view ids, gives the box of each view that random erasing fills, and what it is filled with.

Random erasing (Zhong et al. 2017) as timm's `RandomErasing` applies it, with one box: on normalised images, so that noise
is standard normal and the constant 0 is the mean colour. Each noise value is a function of the seed, the view id and its
place in the view, whatever the box.
"""

from __future__ import annotations

import math

import numpy as np

from deit_fast.kernels import rng
from deit_fast.kernels.compiled import compiled

CONST = 0  # zeros
RAND = 1  # one normal for each channel
PIXEL = 2  # one normal for each value
MODES = {"const": CONST, "rand": RAND, "pixel": PIXEL}

TRIES = 10
_MIN_AREA, _MAX_AREA = 0.02, 1.0 / 3.0
_MAX_LOG_ASPECT = -math.log(0.3)

# values that one block of the generator gives
_QUAD = np.uint64(4)


@compiled()
def erasing_box(seed, view_id, probability, height, width):  # type: ignore[no-untyped-def]
    """Box (y0, y1, x0, x1) of a view that is erased, all zeros for none: a share of the area uniform on 0.02 to 1/3, height
    over width log-uniform on 0.3 to 1/0.3, ten tries to fit in with both sides shorter than the view's."""
    nothing = (np.int64(0), np.int64(0), np.int64(0), np.int64(0))
    if rng.uniforms(seed, view_id, rng.ERASE, 0)[0] >= probability:
        return nothing
    for attempt in range(TRIES):
        u0, u1, u2, u3 = rng.uniforms(seed, view_id, rng.ERASE, 1 + attempt)
        area = (_MIN_AREA + u0 * (_MAX_AREA - _MIN_AREA)) * (height * width)
        aspect = math.exp((2.0 * u1 - 1.0) * _MAX_LOG_ASPECT)
        box_height = np.int64(round(math.sqrt(area * aspect)))
        box_width = np.int64(round(math.sqrt(area / aspect)))
        if box_height < height and box_width < width:
            y0 = rng.below(u2, height - box_height + 1)
            x0 = rng.below(u3, width - box_width + 1)
            return y0, y0 + box_height, x0, x0 + box_width
    return nothing


@compiled()
def draw_boxes(seed, ids, probability, height, width, boxes):  # type: ignore[no-untyped-def]
    """Fills boxes (B, 4) int64 with the `erasing_box` of each view. ids (B,) uint64; height, width: of the views."""
    for i in range(len(ids)):
        boxes[i, 0], boxes[i, 1], boxes[i, 2], boxes[i, 3] = erasing_box(seed, ids[i], probability, height, width)


@compiled()
def noise_value(seed, view_id, mode, y, x, channel):  # type: ignore[no-untyped-def]
    """float32 that the erased value of a channel (0 to 2) at row y, column x is filled with."""
    if mode == CONST:
        return np.float32(0.0)
    if mode == RAND:
        y, x = np.int64(0), np.int64(0)
    place = 3 * x + channel
    first, second, third, fourth = rng.normals_at(seed, view_id, rng.NOISE, y, place // 4)
    lane = place % 4
    if lane < 2:
        return first if lane == 0 else second
    return third if lane == 2 else fourth


@compiled(inlined=True)
def noise_quad(seed, view_id, mode, y, quad):  # type: ignore[no-untyped-def]
    """`noise_value` of the values 4 quad to 4 quad + 3 of row y, each place 3 x + channel: what one block gives, or repeats."""
    zero = np.float32(0.0)
    if mode == CONST:
        return zero, zero, zero, zero
    is_pixel = mode == PIXEL
    row, block = np.uint64(y) if is_pixel else np.uint64(0), np.uint64(quad) if is_pixel else np.uint64(0)
    first, second, third, fourth = rng.normals_at(seed, view_id, rng.NOISE, row, block)
    if is_pixel:
        return first, second, third, fourth
    channel = quad % 3  # of the first of the four: 4 quad mod 3
    if channel == 0:
        return first, second, third, first
    return (second, third, first, second) if channel == 1 else (third, first, second, third)


@compiled()
def fill_noise(seed, view_id, mode, y, first, last, noise):  # type: ignore[no-untyped-def]
    """noise[i] = `noise_value` at row y, column i // 3, channel i % 3, for i from first to last - 1; 0 <= first < last.

    noise (N,) float32, N >= last rounded up to a multiple of 4; up to three values on either side are overwritten.
    """
    if mode == PIXEL:
        begin, end = np.uint64(first) // _QUAD, (np.uint64(last) + np.uint64(3)) // _QUAD
        for quad in range(begin, end):
            place = quad * _QUAD
            values = rng.normals_at(seed, view_id, rng.NOISE, y, quad)
            noise[place] = values[0]
            noise[place + np.uint64(1)] = values[1]
            noise[place + np.uint64(2)] = values[2]
            noise[place + np.uint64(3)] = values[3]
    else:
        for i in range(first, last):
            noise[i] = np.float32(0.0)
        if mode == RAND:
            for channel in range(3):
                value = noise_value(seed, view_id, mode, y, np.int64(0), channel)
                for i in range(first - first % 3 + channel, last, 3):
                    noise[i] = value
