"""Takes decoded images of any sizes on the device, gives what crop plans show of them: uint8 views, Pillow's bit for bit.

`kernels.resample` on the GPU, one launch for a batch. A block makes a tile of a view. The rows that its outputs see are
resampled along the columns into shared memory, and from there along the rows: nothing between the passes leaves the
multiprocessor, and a large image is shared out among as many blocks as a small one. Where an image is shrunk so much that this
does not fit into shared memory, the tile is made in smaller squares, one after the other.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from deit_fast.kernels import crop
from deit_fast.kernels import filters as definition
from deit_fast.kernels.cuda.driver import cuda, device_function, kernel, launch
from deit_fast.kernels.cuda.tables import COLUMNS, FIRST_COLUMN, FIRST_ROW, FLIPPED, IMAGE, IS_PLANAR, MAX_TAPS, OFFSET, ROWS
from deit_fast.kernels.weigh import PRECISION_BITS, to_grey_level

THREADS = 256
TILE_BITS = 5  # a tile has 2**5 outputs on a side
ROW_BYTES = 16384  # of shared memory between the passes
NUM_COEFFICIENTS = MAX_TAPS  # of each direction in shared memory, which has room for 3 * MAX_TAPS bytes of rows too

_HALF = np.int32(1 << (PRECISION_BITS - 1))
_ONE, _THREE = np.uint64(1), np.uint64(3)
_TAPS, _TOP, _LEFT, _BITS, _NUM_SHARED = range(5)
_NOTHING = (np.int32(2**31 - 1), np.int32(-(2**31)))  # an extent before any pixel is counted in


# indices are unsigned: they are not checked for wrap-around


@device_function
def _weighed(levels, at, step, to_channel, weights, first, count):  # type: ignore[no-untyped-def]
    """Sums of red, green and blue levels times `count` weights from number `first` on; the levels lie `step` apart."""
    red = green = blue = _HALF
    begin = np.uint64(first)
    for k in range(begin, np.uint64(begin + np.uint64(count))):
        weight = weights[k]
        red = np.int32(red + weight * np.int32(levels[at]))
        green = np.int32(green + weight * np.int32(levels[at + to_channel]))
        blue = np.int32(blue + weight * np.int32(levels[at + to_channel + to_channel]))
        at += step
    return red, green, blue


@device_function
def _store(colour, levels, at):  # type: ignore[no-untyped-def]
    levels[at] = to_grey_level(colour[0])
    levels[at + _ONE] = to_grey_level(colour[1])
    levels[at + _ONE + _ONE] = to_grey_level(colour[2])


@device_function
def _axes(images, crops, b):  # type: ignore[no-untyped-def]
    """(vertical, horizontal) axis of a view in the window of its image that is in memory."""
    image = crops[b, IMAGE]
    plan = (crops[b, 0], crops[b, 1], crops[b, 2], crops[b, 3], crops[b, 4], crops[b, 5], crops[b, 6], crops[b, 7])
    return crop.axes(plan, images[image, FIRST_ROW], images[image, FIRST_COLUMN], np.int64(1))


@device_function
def _side_bits(taps, kind, vertical, tile_bits, row_bytes, num_coefficients):  # type: ignore[no-untyped-def]
    """Squares of 2**this outputs on a side fit into shared memory."""
    bits = np.int32(tile_bits)
    while bits > 0:
        side = np.int64(1) << bits
        pixels = definition.most_pixels(kind, vertical, side)
        if side * taps <= num_coefficients and 3 * side * pixels <= row_bytes:
            break
        bits = np.int32(bits - 1)
    return bits


@functools.cache
def resample_kernel(
    kind: int, tile_bits: int = TILE_BITS, row_bytes: int = ROW_BYTES, num_coefficients: int = NUM_COEFFICIENTS
) -> Any:
    """The kernel for a filter from `resample.FILTERS`. It is a constant, so that no thread carries along what others need."""
    tile = 1 << tile_bits
    most_outputs, most_coefficients = 2 * tile, 2 * num_coefficients

    @kernel(threads=THREADS, blocks=3)
    def resample_tiles(pixels, images, crops, resolution, views):  # type: ignore[no-untyped-def]
        rows = cuda.shared.array(row_bytes, np.uint8)
        # of each output of a square: the vertical ones, then the horizontal ones
        coefficients = cuda.shared.array(most_coefficients, np.int32)
        lows = cuda.shared.array(most_outputs, np.int32)  # first pixel that it sees
        counts = cuda.shared.array(most_outputs, np.int32)  # how many it sees
        extent = cuda.shared.array(2, np.int32)  # rows that any of them sees: the first, and the end
        # the same for all threads, and read anew in each phase: in registers it would be in the way of the phases between
        shared = cuda.shared.array(_NUM_SHARED, np.int64)

        tiles = (resolution + tile - 1) >> tile_bits
        b = np.int64(cuda.blockIdx.x // (tiles * tiles))
        thread, num_threads = cuda.threadIdx.x, cuda.blockDim.x
        if thread == 0:
            vertical, horizontal = _axes(images, crops, b)
            taps = max(definition.most_taps(kind, vertical), definition.most_taps(kind, horizontal))
            shared[_TAPS], shared[_TOP], shared[_LEFT] = taps, vertical[0], horizontal[0]
            shared[_BITS] = _side_bits(taps, kind, vertical, tile_bits, row_bytes, num_coefficients)
            extent[0], extent[1] = _NOTHING
        cuda.syncthreads()
        bits = np.int32(shared[_BITS])
        for square in range(1 << 2 * (tile_bits - bits)):
            number = cuda.blockIdx.x - b * tiles * tiles
            side, squares = 1 << bits, tile_bits - bits
            first_row = ((number // tiles) << tile_bits) + ((square >> squares) << bits)
            first_column = ((number % tiles) << tile_bits) + ((square & ((1 << squares) - 1)) << bits)
            height, width = min(side, resolution - first_row), min(side, resolution - first_column)
            if height <= 0 or width <= 0:  # beyond the view, for all threads
                continue

            cuda.syncthreads()  # until all are done with the square before
            taps = np.int32(shared[_TAPS])
            for i in range(thread, 2 * side, num_threads):
                is_vertical, place = i < side, i & (side - 1)
                if place < (height if is_vertical else width):
                    vertical, horizontal = _axes(images, crops, b)
                    axis = vertical if is_vertical else horizontal
                    output = place + (first_row if is_vertical else first_column)
                    if not is_vertical and crops[b, FLIPPED] != 0:
                        output = resolution - 1 - output
                    low, high, centre = definition.taps(kind, axis, definition.shown(axis[5] + output, axis[4]))
                    reciprocal = 1.0 / definition.shrinking(axis)
                    total = 0.0
                    for pixel in range(low, high):
                        total += definition.weight_at(kind, pixel, centre, reciprocal)
                    for pixel in range(low, high):
                        weight = definition.weight_at(kind, pixel, centre, reciprocal)
                        coefficients[np.uint64(i * taps + pixel - low)] = definition.coefficient(weight, total)
                    lows[np.uint64(i)], counts[np.uint64(i)] = low, high - low
                    if is_vertical:
                        cuda.atomic.min(extent, 0, np.int32(low))
                        cuda.atomic.max(extent, 1, np.int32(high))

            cuda.syncthreads()
            image, taps = crops[b, IMAGE], np.int32(shared[_TAPS])
            columns, offset = images[image, COLUMNS], np.uint64(images[image, OFFSET])
            plane = np.uint64(columns * images[image, ROWS] if images[image, IS_PLANAR] != 0 else 0)
            top, end = extent[0], extent[1]
            left = (shared[_TOP] + top) * columns + shared[_LEFT]  # of the first row: the pixel that `lows` count from
            for i in range(thread, (end - top) << bits, num_threads):
                place = i & (side - 1)
                if place < width:
                    output = side + place
                    pixel = np.uint64(left + (i >> bits) * columns + lows[np.uint64(output)])
                    count = counts[np.uint64(output)]
                    if plane > 0:
                        colour = _weighed(pixels, offset + pixel, _ONE, plane, coefficients, output * taps, count)
                    else:
                        colour = _weighed(pixels, offset + _THREE * pixel, _THREE, _ONE, coefficients, output * taps, count)
                    _store(colour, rows, np.uint64(3 * i))

            cuda.syncthreads()
            if thread == 0:
                extent[0], extent[1] = _NOTHING
            taps = np.int32(shared[_TAPS])
            for i in range(thread, height << bits, num_threads):
                row, place = i >> bits, i & (side - 1)
                if place < width:
                    at = np.uint64(3 * (((lows[np.uint64(row)] - top) << bits) + place))
                    count = counts[np.uint64(row)]
                    colour = _weighed(rows, at, np.uint64(3 << bits), _ONE, coefficients, row * taps, count)
                    to = 3 * ((b * resolution + first_row + row) * resolution + first_column + place)
                    _store(colour, views, np.uint64(to))

    return resample_tiles


def resample(pixels: Any, images: Any, crops: Any, kind: int, resolution: int, count: int, views: Any) -> None:
    """Queues the resampling of `count` views.

    Arrays from `cuda.array`: pixels, flat uint8, in which the images lie; images (N, IMAGE_LENGTH) and crops (>= count,
    CROP_LENGTH) int64, of `tables`; views (count, resolution, resolution, 3) uint8, flat, written. kind: from
    `resample.FILTERS`. Of each image the window that is in memory holds all pixels in the `reach` of its views. No axis of a
    view has more `most_taps` than `tables.MAX_TAPS`.

    On a device an offset may lead out of `pixels`, before or behind it: so images that a decoder has left in arrays of their
    own are found by the differences of their addresses, and not copied.
    """
    tiles = -(-resolution // (1 << TILE_BITS))
    blocks = count * tiles * tiles
    launch(resample_kernel(kind), blocks, THREADS, pixels, images, crops, np.int32(resolution), views)
