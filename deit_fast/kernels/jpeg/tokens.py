"""Coefficients of a JPEG as tokens, which `huffman` gives codes and `entropy.recode` writes."""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg.bit_counts import leading_zeros, trailing_zeros
from deit_fast.kernels.jpeg.bitstream import DC_OUT_OF_RANGE, OK
from deit_fast.kernels.jpeg.huffman import MAX_AC_BITS, MAX_DC_BITS
from deit_fast.kernels.jpeg.progressive_scans import ZIGZAG

_U = np.uint64  # Numba makes floats of sums of signed and unsigned integers
_0, _1, _16, _64 = (np.uint64(number) for number in (0, 1, 16, 64))


@register_jitable(inline="always")
def _magnitude(value):  # type: ignore[no-untyped-def]
    """`entropy.magnitude`, in a few instructions."""
    sign = value >> 63
    size = np.int64(_64 - leading_zeros(_U((value ^ sign) - sign)))
    return size, (value + sign) & ((1 << size) - 1)


@compiled()
def tokens_of(coefficients, masks, blocks, interval, tokens, starts):  # type: ignore[no-untyped-def]
    """(status, number of tokens): writes tokens, and where those of each interval start, and at last their end.

    coefficients (MCUs * b, 64) int16, row by row; masks (MCUs * b,) uint64: bit k is set if coefficient k of the zigzag is not
    0, that of the first does not matter; blocks (b, 3) int64: component, DC and AC table (from 4 on) of an MCU's blocks;
    interval: MCUs to a restart marker; starts (intervals + 1,) int64; tokens (65 * MCUs * b,) uint32, less where
    fewer coefficients are not 0. DC_OUT_OF_RANGE where a baseline JPEG cannot have a coefficient.
    """
    before = np.zeros(4, np.int64)
    num_tokens, num_starts = _0, 0
    left = np.int64(0)
    place = _0
    while place < _U(masks.size):
        if left == 0:
            starts[num_starts] = num_tokens
            num_starts += 1
            left = np.int64(interval)
            before[:] = 0
        left -= 1
        for number in range(blocks.shape[0]):
            component, dc, ac = blocks[number, 0], blocks[number, 1], blocks[number, 2]
            value = np.int64(coefficients[place, 0])
            size, extra = _magnitude(value - before[component])
            before[component] = value
            if size > MAX_DC_BITS:
                return DC_OUT_OF_RANGE, np.int64(num_tokens)
            tokens[num_tokens] = ((4 + dc) << 26) | (size << 22) | extra
            num_tokens += _1
            kind = (4 + ac) << 26
            mask = masks[place] & ~_1
            k = _0  # the last coefficient that is written
            while mask != _0:
                following = trailing_zeros(mask)
                mask &= mask - _1
                run = following - k - _1
                k = following
                while run >= _16:
                    tokens[num_tokens] = kind | (0xF0 << 18)
                    num_tokens += _1
                    run -= _16
                value = np.int64(coefficients[place, ZIGZAG[k]])
                size, extra = _magnitude(value)
                if size > MAX_AC_BITS:
                    return DC_OUT_OF_RANGE, np.int64(num_tokens)
                tokens[num_tokens] = kind | ((np.int64(run) << 4 | size) << 18) | extra
                num_tokens += _1
            if k != _U(63):
                tokens[num_tokens] = kind
                num_tokens += _1
            place += _1
    starts[num_starts] = num_tokens
    return OK, np.int64(num_tokens)
