"""Takes the coefficients of a JPEG, gives its entropy-coded data with restart markers, and what its Huffman tables are made of.

Coefficients are (MCUs * b, 64) int16, each block row by row, with masks (MCUs * b,) uint64: bit k is set if coefficient k of
the zigzag is not 0; that of the first does not matter. blocks (b, 3) int64: component, DC and AC table (from 4 on) of the
blocks of an MCU.
"""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg.bit_counts import leading_zeros, trailing_zeros
from deit_fast.kernels.jpeg.bitstream import DC_OUT_OF_RANGE, NO_CODE, OK, ONES, ff_bytes, load, store, stuff
from deit_fast.kernels.jpeg.huffman import MAX_AC_BITS, MAX_DC_BITS
from deit_fast.kernels.jpeg.progressive_scans import ZIGZAG

NO_ROOM = -1
BLOCK_BYTES = 256  # more than a block can take: 27 + 63 * 26 bits, and eight bytes that are stored at once
_SIXTEEN_ZEROS = 0xF0

_U = np.uint64  # Numba makes floats of sums of signed and unsigned integers
_0, _1, _2, _3, _4, _7, _8, _16, _56, _63, _64 = (np.uint64(number) for number in (0, 1, 2, 3, 4, 7, 8, 16, 56, 63, 64))


@register_jitable(inline="always")
def _magnitude(value):  # type: ignore[no-untyped-def]
    """Number of bits and bits by which a coefficient is coded."""
    sign = value >> 63
    size = np.int64(_64 - leading_zeros(_U((value ^ sign) - sign)))
    return size, (value + sign) & ((1 << size) - 1)


@compiled()
def count_symbols(coefficients, masks, blocks, interval, frequencies):  # type: ignore[no-untyped-def]
    """Counts the symbols of each Huffman table into frequencies (8, 256) int64; OK, or DC_OUT_OF_RANGE where a baseline JPEG
    cannot have a coefficient."""
    frequencies[:] = 0
    before = np.zeros(4, np.int64)
    left = np.int64(0)
    place = _0
    while place < _U(masks.size):
        if left == 0:
            left = np.int64(interval)
            before[:] = 0
        left -= 1
        for number in range(blocks.shape[0]):
            component, dc, ac = blocks[number, 0], blocks[number, 1], blocks[number, 2]
            value = np.int64(coefficients[place, 0])
            size = _magnitude(value - before[component])[0]
            before[component] = value
            if size > MAX_DC_BITS:
                return DC_OUT_OF_RANGE
            frequencies[dc, size] += 1
            mask = masks[place] & ~_1
            k = _0  # the last coefficient that is coded
            while mask != _0:
                following = trailing_zeros(mask)
                mask &= mask - _1
                run = following - k - _1
                k = following
                if run >= _16:
                    frequencies[ac, _SIXTEEN_ZEROS] += np.int64(run >> _4)
                    run &= _U(15)
                size = _magnitude(np.int64(coefficients[place, ZIGZAG[k]]))[0]
                if size > MAX_AC_BITS:
                    return DC_OUT_OF_RANGE
                frequencies[ac, run << _4 | _U(size)] += 1
            if k != _U(63):
                frequencies[ac, 0] += 1
            place += _1
    return OK


@compiled()
def encode_blocks(coefficients, masks, blocks, interval, table, out, start, tiles):  # type: ignore[no-untyped-def]
    """(status, where the end marker ends) of writing the data from out[start] on.

    interval: MCUs to a restart marker; table (8, 256) uint32: code << 8 | its bits, 0 where a symbol has none; out (n,) uint8;
    tiles (number of intervals,) uint32: bytes of each with the marker after it. NO_ROOM where out is too short; NO_CODE for a
    symbol without a code.
    """
    per_tile = interval * blocks.shape[0]
    bits = np.empty(per_tile * BLOCK_BYTES, np.uint8)
    at = _U(start)
    for tile in range(tiles.size):
        first = tile * per_tile
        num_bits = _encode_tile(coefficients, masks, first, first + per_tile, blocks, table, bits)
        if num_bits < 0:
            return NO_CODE, np.int64(at)
        num_bytes = _U(num_bits + 7) >> _3
        # each byte may need a zero behind it
        if at + num_bytes * _2 + _16 > _U(out.size):
            return NO_ROOM, np.int64(at)
        tile_start = at
        place = _0
        while place < num_bytes:
            word = load(bits, place)
            if ff_bytes(word) == _0:
                store(out, at, word)
                at += min(num_bytes - place, _8)
            else:
                at = stuff(out, at, word, min(num_bytes - place, _8))
            place += _8
        out[at] = 0xFF
        out[at + _1] = 0xD0 + (tile & 7) if tile + 1 < tiles.size else 0xD9
        at += _2
        tiles[tile] = at - tile_start
    return OK, np.int64(at)


@compiled()
def _encode_tile(coefficients, masks, first, end, blocks, table, bits):  # type: ignore[no-untyped-def]
    """Number of bits of the blocks from first to end - 1, written to bits (BLOCK_BYTES each,) uint8 and filled with ones to a
    byte; -1 for a symbol without a code."""
    before = np.zeros(4, np.int64)
    at = _0
    word, fill = _0, _0  # bits of an unfinished byte, from the highest on, and their number
    place, number = _U(first), np.int64(0)
    while place < _U(end):
        component, dc, ac = blocks[number, 0], blocks[number, 1], blocks[number, 2]
        value = np.int64(coefficients[place, 0])
        size, extra = _magnitude(value - before[component])
        before[component] = value
        entry = np.int64(table[dc, size & 15])
        if entry == 0:
            return np.int64(-1)
        mask = masks[place] & ~_1
        k = _0  # the last coefficient that is coded; 64 once the end of the block is
        while True:
            # eight bytes are stored for each symbol, of 26 bits at most: whether one completes a word cannot be foretold
            length = _U((entry & 255) + size)
            word |= _U((entry >> 8) << size | extra) << (_64 - fill - length)
            fill += length
            store(bits, at, word)
            at += fill >> _3
            word <<= fill & _56
            fill &= _7
            if mask == _0:
                if k >= _63:
                    break
                k, size, extra = _64, np.int64(0), np.int64(0)
                entry = np.int64(table[ac, 0])
            else:
                following = trailing_zeros(mask)
                run = following - k - _1
                if run < _16:
                    mask &= mask - _1
                    k = following
                    size, extra = _magnitude(np.int64(coefficients[place, ZIGZAG[k]]))
                    entry = np.int64(table[ac, run << _4 | _U(size & 15)])
                else:
                    k, size, extra = k + _16, np.int64(0), np.int64(0)
                    entry = np.int64(table[ac, _SIXTEEN_ZEROS])
            if entry == 0:
                return np.int64(-1)
        place += _1
        number += 1
        if number == blocks.shape[0]:
            number = np.int64(0)
    store(bits, at, word | (ONES >> fill))
    return np.int64(at * _8 + fill)
