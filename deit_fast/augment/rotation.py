"""Takes a view and degrees, gives it rotated about its centre as Pillow's Image.rotate does it.

For each pixel, 16 neighbours are loaded from a copy with four bytes to a pixel, as four vectors; first the four rows are
combined, then the four columns, which are then quarters of a vector.
"""

from __future__ import annotations

import math

import numpy as np

from deit_fast.augment import operation_codes as codes
from deit_fast.augment import pixel
from deit_fast.augment.compiled import compiled
from deit_fast.augment.vectors import QUAD, between_quads, copy_bytes, floats
from deit_fast.augment.warp import CHANNELS, PAD, columns_within, fill_outside, fill_pattern


@compiled()
def round_to_15(value):  # type: ignore[no-untyped-def]
    """Python's round(value, 15) of a number from -1 to 1, to the bit.

    value * 10^15 is rounded to a multiple of 1/8 before it is rounded to an integer: halves need the error of the product.
    """
    scale, splitter = 1e15, 134217729.0  # 2^27 + 1: Veltkamp's splitting, Dekker's product
    product = value * scale
    a = value * splitter
    value_high = a - (a - value)
    value_low = value - value_high
    b = scale * splitter
    scale_high = b - (b - scale)
    scale_low = scale - scale_high
    error = value_low * scale_low - (((product - value_high * scale_high) - value_low * scale_high) - value_high * scale_low)
    whole = np.rint(product)
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
def affine_map(code, argument, height, width):  # type: ignore[no-untyped-def]
    """The map of any affine operation of `operation_codes`, as `rotation` has it; not for multiples of 90 degrees."""
    if code == codes.ROTATE:
        return rotation(argument, height, width)
    x_row = argument if code == codes.SHEAR_X else 0.0
    x_offset = argument if code == codes.TRANSLATE_X else 0.0
    y_column = argument if code == codes.SHEAR_Y else 0.0
    y_offset = argument if code == codes.TRANSLATE_Y else 0.0
    return 1.0, x_row, x_offset, y_column, 1.0, y_offset


@compiled()
def _copy_quads(view, source):  # type: ignore[no-untyped-def]
    """source (H + 4, W + 4, 4) = the view, the pixels at its edges twice more on each side; the fourth byte holds nothing."""
    height, width = view.shape[0], view.shape[1]
    for y in range(height):
        row, target = view[y].reshape(width * CHANNELS), source[y + PAD].reshape((width + 2 * PAD) * QUAD)
        body = target[PAD * QUAD :]
        for x in range(width):
            body[4 * x] = row[3 * x]
            body[4 * x + 1] = row[3 * x + 1]
            body[4 * x + 2] = row[3 * x + 2]
            body[4 * x + 3] = 0
        for x in range(PAD):
            for channel in range(QUAD):
                target[QUAD * x + channel] = body[channel]
                body[QUAD * (width + x) + channel] = body[QUAD * (width - 1) + channel]
    for y in range(PAD):
        copy_bytes(source[PAD], source[y])
        copy_bytes(source[height + PAD - 1], source[height + PAD + y])


@compiled()
def _plan_row(matrix, y, first, end, bicubic, stride, places, x_weights, y_weights):  # type: ignore[no-untyped-def]
    """For the columns first to end of row y: where the first of 16 neighbours lies, and the weights of four each way."""
    x_step, x_row, x_offset, y_step, y_row, y_offset = matrix
    x_term, y_term = x_row * (np.float64(y) + 0.5), y_row * (np.float64(y) + 0.5)
    zero = np.float32(0)
    for i in range(end - first):
        x_index, x_distance = pixel.split_coordinate(pixel.source_coordinate(x_step, x_term, x_offset, first + i))
        y_index, y_distance = pixel.split_coordinate(pixel.source_coordinate(y_step, y_term, y_offset, first + i))
        places[i] = np.int32((y_index + np.int32(PAD - 1)) * stride + (x_index + np.int32(PAD - 1)) * np.int32(QUAD))
        before, after, second_after = pixel.neighbour_weights(x_distance, bicubic)
        x_weights[4 * i], x_weights[4 * i + 1], x_weights[4 * i + 2], x_weights[4 * i + 3] = before, zero, after, second_after
        before, after, second_after = pixel.neighbour_weights(y_distance, bicubic)
        y_weights[4 * i], y_weights[4 * i + 1], y_weights[4 * i + 2], y_weights[4 * i + 3] = before, zero, after, second_after


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
def rotate(view, degrees, bicubic, fill, scratch):  # type: ignore[no-untyped-def]
    """view (H, W, 3) uint8 turned counter-clockwise, in place; what comes from outside takes the fill."""
    height, width = view.shape[0], view.shape[1]
    angle = degrees % 360.0
    if angle == 0.0:
        return
    if angle == 180.0 or (height == width and angle in (90.0, 270.0)):
        _turn_by_quarters(view, np.int64(angle) // 90, scratch)
        return
    matrix = rotation(degrees, height, width)
    stride = np.int32((width + 2 * PAD) * QUAD)
    size = (height + 2 * PAD) * stride
    source = scratch[:size].reshape(height + 2 * PAD, width + 2 * PAD, QUAD)
    pattern, last = scratch[size:][: CHANNELS * width], scratch[size + CHANNELS * width :][:QUAD]
    tables = floats(scratch, size + CHANNELS * width + QUAD, 9 * width)
    x_weights, y_weights, places = tables[: 4 * width], tables[4 * width :][: 4 * width], tables[8 * width :].view(np.int32)
    fill_pattern(fill, pattern)
    _copy_quads(view, source)
    for y in range(height):
        row = view[y].reshape(width * CHANNELS)
        half = np.float64(y) + 0.5
        first, end = columns_within(matrix[0], matrix[1] * half, matrix[2], width, width)
        y_first, y_end = columns_within(matrix[3], matrix[4] * half, matrix[5], height, width)
        first = max(first, y_first)
        end = max(first, min(end, y_end))
        if first < end:
            _plan_row(matrix, y, first, end, bicubic, stride, places, x_weights, y_weights)
            _rotate_row(source, np.int64(stride), places, x_weights, y_weights, row[CHANNELS * first : CHANNELS * end], last)
        fill_outside(row, first, end, pattern)


@compiled()
def _rotate_row(source, stride, places, x_weights, y_weights, out, last):  # type: ignore[no-untyped-def]
    """out, flat, from what `_plan_row` says. A pixel is written as four bytes, of which the next one takes one back."""
    count = out.size // CHANNELS
    source_at, target = source.ctypes.data, out.ctypes.data
    x_at, y_at = x_weights.ctypes.data, y_weights.ctypes.data
    for i in range(count):
        out_at = target + CHANNELS * i if i < count - 1 else last.ctypes.data
        between_quads(source_at + places[i], stride, y_at + 16 * i, x_at + 16 * i, out_at)
    for channel in range(CHANNELS):
        out[CHANNELS * (count - 1) + channel] = last[channel]
