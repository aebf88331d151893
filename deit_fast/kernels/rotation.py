"""Takes a view and degrees, gives it rotated about its centre as Pillow's Image.rotate does it.

For eight pixels at a time, the 16 neighbours of each are loaded from a copy with four bytes to a pixel, and turned so that
those at the same place lie side by side; first the four rows are combined, then the four columns.
"""

from __future__ import annotations

import math

import numpy as np

from deit_fast.kernels import pixel
from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.octets import FOURTH_BYTE, PIXELS, QUAD, between_octets
from deit_fast.kernels.vectors import copy_bytes, copy_memory, floats
from deit_fast.kernels.warp import CHANNELS, PAD, columns_within, fill_outside, fill_pattern


@compiled()
def round_to_15(value):  # type: ignore[no-untyped-def]
    """Python's round(value, 15) of a number from -1 to 1, to the bit.

    value * 10^15 is rounded to a multiple of 1/8 before it is rounded to an integer: halves need the error of the product.
    """
    scale, splitter = 1e15, 134217729.0  # 2^27 + 1: Veltkamp's splitting, Dekker's product
    shifter = 6755399441055744.0  # 1.5 2^52, where numbers are integers: np.rint, which CUDA has not, for up to 2^51
    product = value * scale
    a = value * splitter
    value_high = a - (a - value)
    value_low = value - value_high
    b = scale * splitter
    scale_high = b - (b - scale)
    scale_low = scale - scale_high
    error = value_low * scale_low - (((product - value_high * scale_high) - value_low * scale_high) - value_high * scale_low)
    whole = (product + shifter) - shifter
    rest = (product - whole) + error
    if rest > 0.5:
        whole += 1.0
    elif rest < -0.5:
        whole -= 1.0
    return whole / scale


@compiled()
def rotation(degrees, height, width):  # type: ignore[no-untyped-def]
    """The affine map (a, b, c, d, e, f) of Image.rotate: x from a x + b y + c, y from d x + e y + f, at pixels' centres."""
    angle = -math.radians(degrees % 360.0)
    cosine, sine = round_to_15(math.cos(angle)), round_to_15(math.sin(angle))
    centre_x, centre_y = width / 2.0, height / 2.0
    x_offset = cosine * -centre_x + sine * -centre_y + 0.0 + centre_x
    y_offset = -sine * -centre_x + cosine * -centre_y + 0.0 + centre_y
    return cosine, sine, x_offset, -sine, cosine, y_offset


@compiled()
def _copy_quads(view, source):  # type: ignore[no-untyped-def]
    """source (H + 4, W + 4, 4) = the view, the pixels at its edges twice more on each side; fourth bytes are FOURTH_BYTE."""
    height, width = view.shape[0], view.shape[1]
    for y in range(height):
        row, target = view[y].reshape(width * CHANNELS), source[y + PAD].reshape((width + 2 * PAD) * QUAD)
        body = target[PAD * QUAD :]
        for x in range(width):
            body[4 * x] = row[3 * x]
            body[4 * x + 1] = row[3 * x + 1]
            body[4 * x + 2] = row[3 * x + 2]
            body[4 * x + 3] = FOURTH_BYTE
        for x in range(PAD):
            for channel in range(QUAD):
                target[QUAD * x + channel] = body[channel]
                body[QUAD * (width + x) + channel] = body[QUAD * (width - 1) + channel]
    for y in range(PAD):
        copy_bytes(source[PAD], source[y])
        copy_bytes(source[height + PAD - 1], source[height + PAD + y])


@compiled()
def _plan_row(x_terms, y_terms, first, count, row_terms, offsets, stride, places, x_rest, y_rest):  # type: ignore[no-untyped-def]
    """For `count` columns of a row: the byte where the first of 16 neighbours lies, and the distances, float32."""
    for i in range(count):
        x_term, y_term = x_terms[np.uint64(first) + np.uint64(i)], y_terms[np.uint64(first) + np.uint64(i)]
        x_index, x_rest[i] = pixel.split_coordinate(pixel.source_coordinate(x_term, row_terms[0], offsets[0]))
        y_index, y_rest[i] = pixel.split_coordinate(pixel.source_coordinate(y_term, row_terms[1], offsets[1]))
        line, column = np.int32(y_index + np.int32(PAD - 1)), np.int32(x_index + np.int32(PAD - 1))
        places[i] = np.int32(np.int32(line * stride) + np.int32(column * np.int32(QUAD)))


@compiled()
def _weigh_row(distances, count, bicubic, weights):  # type: ignore[no-untyped-def]
    """weights (3, >= count): of the first, third and fourth neighbour; the second counts as it is."""
    before, after, second_after = weights[0], weights[1], weights[2]
    for i in range(np.uint64(count)):
        before[i], after[i], second_after[i] = pixel.neighbour_weights(distances[i], bicubic)


@compiled()
def _turn_by_quarters(view, quarters, scratch):  # type: ignore[no-untyped-def]
    """Counter-clockwise; a view that is not square can be turned by two alone."""
    height, width = view.shape[0], view.shape[1]
    copy = scratch[: view.size].reshape(view.shape)
    copy_bytes(view, copy)
    for y in range(height):
        for x in range(width):
            for channel in range(CHANNELS):
                if quarters == 1:
                    view[y, x, channel] = copy[x, width - 1 - y, channel]
                elif quarters == 2:
                    view[y, x, channel] = copy[height - 1 - y, width - 1 - x, channel]
                else:
                    view[y, x, channel] = copy[height - 1 - x, y, channel]


@compiled()
def rotate(view, argument, bicubic, fill, scratch):  # type: ignore[no-untyped-def]
    """view (H, W, 3) uint8 turned counter-clockwise, in place; what comes from outside takes the fill."""
    height, width = view.shape[0], view.shape[1]
    angle = argument % 360.0
    if angle == 0.0:
        return
    if angle == 180.0 or (height == width and angle in (90.0, 270.0)):
        _turn_by_quarters(view, np.int64(angle) // 90, scratch)
        return
    x_step, x_row, x_offset, y_step, y_row, y_offset = rotation(argument, height, width)
    stride, size = np.int32((width + 2 * PAD) * QUAD), (height + 2 * PAD) * (width + 2 * PAD) * QUAD
    source, rest = scratch[:size], scratch[size:]
    pattern, few = rest[: CHANNELS * width], rest[CHANNELS * width :][: CHANNELS * PIXELS]
    tables = floats(rest, CHANNELS * (width + PIXELS), 13 * width + PIXELS)
    x_terms, y_terms = tables[: 2 * width].view(np.float64), tables[2 * width : 4 * width].view(np.float64)
    x_weights, y_weights = tables[4 * width : 7 * width].reshape(3, width), tables[7 * width : 10 * width].reshape(3, width)
    x_rest, y_rest = tables[10 * width : 11 * width], tables[11 * width : 12 * width]
    places = tables[12 * width :].view(np.int32)
    for x in range(width):
        x_terms[x], y_terms[x] = x_step * (np.float64(x) + 0.5), y_step * (np.float64(x) + 0.5)
    fill_pattern(fill, pattern)
    _copy_quads(view, source.reshape(height + 2 * PAD, width + 2 * PAD, QUAD))
    for y in range(height):
        row = view[y].reshape(width * CHANNELS)
        x_term, y_term = x_row * (np.float64(y) + 0.5), y_row * (np.float64(y) + 0.5)
        first, end = columns_within(x_step, x_term, x_offset, width, width)
        y_first, y_end = columns_within(y_step, y_term, y_offset, height, width)
        first = max(first, y_first)
        end = max(first, min(end, y_end))
        count = end - first
        if count > 0:
            terms = x_term, y_term
            _plan_row(x_terms, y_terms, first, count, terms, (x_offset, y_offset), stride, places, x_rest, y_rest)
            _weigh_row(x_rest, count, bicubic, x_weights)
            _weigh_row(y_rest, count, bicubic, y_weights)
            _rotate_row(source, np.int64(stride), places, x_weights, y_weights, row[CHANNELS * first : CHANNELS * end], few)
        fill_outside(view, y, first, end, pattern)


@compiled()
def _rotate_row(source, stride, places, x_weights, y_weights, out, few):  # type: ignore[no-untyped-def]
    """out, flat, from what `_plan_row` says. few: scratch for a row of fewer pixels than are made together."""
    count = out.size // CHANNELS
    source_at, target, places_at = source.ctypes.data, out.ctypes.data, places.ctypes.data
    x_at, y_at, weights_stride = x_weights.ctypes.data, y_weights.ctypes.data, x_weights.strides[0]
    if count < PIXELS:
        for i in range(count, PIXELS):
            places[i] = places[0]
        between_octets(source_at, places_at, stride, y_at, x_at, weights_stride, few.ctypes.data)
        copy_memory(target, few.ctypes.data, CHANNELS * count)
        return
    i = 0
    while i < count:
        i = min(i, count - PIXELS)  # the last pixels overlap those before where the count is no multiple
        between_octets(source_at, places_at + 4 * i, stride, y_at + 4 * i, x_at + 4 * i, weights_stride, target + CHANNELS * i)
        i += PIXELS
