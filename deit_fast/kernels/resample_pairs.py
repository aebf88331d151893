"""Resampling two bytes at a time, with the instructions of AVX2.

Sixteen rows at a time are turned, so that two neighbouring columns of a channel lie in turns; the outputs of a block are turned
back as pairs of rows, for the second pass. Pairs begin at even columns and rows: an output that begins at an odd one has a
weight of 0 in front.
"""

from __future__ import annotations

import numpy as np

from deit_fast.kernels import pairs
from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.filters import reach
from deit_fast.kernels.resample_weights import BLOCK_LENGTH, MORE_OUTPUTS, PAIR_LENGTH, most_pairs, pair_weights
from deit_fast.kernels.vectors import copy_memory

_ROWS, _OUTPUTS = pairs.ROWS, pairs.OUTPUTS
_WORDS_BYTES = 3 * 2 * _ROWS * _OUTPUTS  # of the outputs that are turned back together
_TAIL_STRIDE = 32  # bytes from one row to the next, where the last pixels of a block are copied to
_MARGIN = 64  # for an address that is a multiple of this


def scratch_sizes(max_height: int, max_width: int, max_outputs: int, most_taps: int) -> tuple[int, int]:
    """Lengths of the scratch arrays of `resample`, as in `kernels.resample`; most_taps: upper bound on pixels for an output.

    An output takes 2 bounds, and 2 numbers for each pair of 2 ceil(3 max(scale, 1)) + 1 pixels and one in front at most;
    scale x outputs is the input: 6 inputs + 10 outputs, behind the weights of a block of outputs.
    """
    integers = 6 * (max_height + max_width) + 2 * (8 + 2) * max_outputs
    rows = (max_height + _ROWS) * max_outputs * 3
    turned = 3 * _ROWS * (max_width + 2 * pairs.GROUP) + _WORDS_BYTES + _ROWS * _TAIL_STRIDE
    num_pairs = most_taps // 2 + 1  # as `most_pairs` has it
    block = 1 + BLOCK_LENGTH + PAIR_LENGTH * num_pairs
    return rows + turned + _MARGIN, block + integers + 2 * MORE_OUTPUTS * num_pairs


@compiled()
def _address(start):  # type: ignore[no-untyped-def]
    return -(-start // _MARGIN) * _MARGIN


@compiled()
def _turn(source, stride, num_rows, num_columns, turned, tail):  # type: ignore[no-untyped-def]
    """Turns a block of rows of num_columns pixels, as addresses, and reads no other pixels. tail: scratch of a block."""
    group = np.int64(0)
    step = 2 * pairs.PAIR_BYTES
    while 12 * group + pairs.GROUP_BYTES <= 3 * num_columns:
        pairs.turn_to_pairs(source + 12 * group, stride, num_rows, turned + step * group)
        group += 1
    while pairs.GROUP * group < num_columns:
        count = min(3 * num_columns - 12 * group, 12)
        for row in range(num_rows):
            copy_memory(tail + row * _TAIL_STRIDE, source + row * stride + 12 * group, count)
        pairs.turn_to_pairs(tail, np.int64(_TAIL_STRIDE), num_rows, turned + step * group)
        group += 1


@compiled()
def _resample_columns(source, stride, num_rows, num_columns, count, bounds, coefficients, most, scratch, rows):  # type: ignore[no-untyped-def]
    """Rows of pairs (num_rows / 2 x 2 x 3 count bytes) at rows, from num_rows rows of pixels at source, stride bytes apart.

    Addresses but for bounds. The last block is a whole one, whose missing rows repeat the last.
    """
    words = scratch
    tail = words + _WORDS_BYTES
    turned = tail + _ROWS * _TAIL_STRIDE
    row_stride = 2 * 3 * count
    for y in range(0, num_rows, _ROWS):
        _turn(source + y * stride, stride, min(num_rows - y, np.int64(_ROWS)), num_columns, turned, tail)
        target = rows + y // 2 * row_stride
        x = np.int64(0)
        while x < count:
            x = min(x, count - _OUTPUTS)  # the last outputs overlap those before where the count is no multiple
            for k in range(_OUTPUTS):
                begin, num_pairs = np.int64(bounds[2 * (x + k)]), np.int64(bounds[2 * (x + k) + 1])
                weights = coefficients + 8 * most * (x + k)
                pairs.weigh_column(turned + pairs.PAIR_BYTES * begin, weights, num_pairs, words + 96 * k)
            for k in range(3):
                pairs.turn_to_rows(words + 256 * k, target + 6 * x + 16 * k, row_stride)
            x += _OUTPUTS


@compiled()
def resample(image, vertical, horizontal, kind, mirrored, rows_scratch, int_scratch, view):  # type: ignore[no-untyped-def]
    """`kernels.resample.resample`, or False where it cannot: for weights near twice 1, or views of few pixels."""
    out_height, out_width = view.shape[0], view.shape[1]
    if out_width < max(_OUTPUTS, -(-pairs.LANES // 3)):
        return False
    most_rows, most_columns = most_pairs(kind, vertical), most_pairs(kind, horizontal)
    start = (int_scratch.ctypes.data & 4) // 4
    end = start + BLOCK_LENGTH + PAIR_LENGTH * max(most_rows, most_columns)
    block, integers = int_scratch[start:end].view(np.float64), int_scratch[end:]
    row_bounds = integers[: 2 * out_height]
    column_bounds = integers[2 * out_height : 2 * (out_height + out_width)]
    row_weights = integers.ctypes.data + 8 * (out_height + out_width)
    column_weights = row_weights + 8 * most_rows * out_height

    y0, y1 = reach(kind, vertical, out_height)
    x0, x1 = reach(kind, horizontal, out_width)
    if not pair_weights(kind, vertical, out_height, False, y0 - vertical[0], block, row_bounds, row_weights):
        return False
    if not pair_weights(kind, horizontal, out_width, mirrored, x0 - horizontal[0], block, column_bounds, column_weights):
        return False

    stride, length = 3 * image.shape[1], 3 * out_width
    source = image.reshape(image.size).ctypes.data + y0 * stride + 3 * x0  # Numba refuses an array that is not contiguous
    scratch = _address(rows_scratch.ctypes.data)
    rows = scratch + _WORDS_BYTES + _ROWS * _TAIL_STRIDE + 3 * _ROWS * (-(-(x1 - x0) // pairs.GROUP) * pairs.GROUP)
    _resample_columns(source, stride, y1 - y0, x1 - x0, out_width, column_bounds, column_weights, most_columns, scratch, rows)
    target = view.ctypes.data
    for y in range(out_height):
        begin, num_pairs = np.int64(row_bounds[2 * y]), np.int64(row_bounds[2 * y + 1])
        pairs.weigh_row(rows + begin * 2 * length, row_weights + 8 * most_rows * y, num_pairs, target + y * length, length)
    return True
