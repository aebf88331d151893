"""Takes a tile of a stored JPEG, gives its bits without the zeros behind FF bytes, if it is whole and ends with its marker."""

from __future__ import annotations

import numpy as np

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg.bit_counts import leading_zeros
from deit_fast.kernels.jpeg.bitstream import load, store

_U = np.uint64  # Numba makes floats of sums of signed and unsigned integers
_0, _1, _3, _8 = (np.uint64(number) for number in (0, 1, 3, 8))
_LOW_BITS = np.uint64(0x7F7F7F7F7F7F7F7F)
_EVERY_BYTE = np.uint64(0x0101010101010101)
_HIGH_BITS = np.uint64(0x8080808080808080)


@compiled()
def length_of(lengths, length_bytes, tile):  # type: ignore[no-untyped-def]
    """Bytes of a tile with its marker, from (num_tiles * length_bytes,) uint8: little-endian numbers of 2 or 4 bytes."""
    at = tile * length_bytes
    length = np.int64(lengths[at]) | np.int64(lengths[at + 1]) << 8
    if length_bytes == 4:
        length |= np.int64(lengths[at + 2]) << 16 | np.int64(lengths[at + 3]) << 24
    return length


@compiled()
def ends_with(encoded, source, length, marker):  # type: ignore[no-untyped-def]
    """Whether a tile lies inside the JPEG and ends with that marker."""
    end = source + length
    return length >= 2 and end <= encoded.size and encoded[end - 2] == 0xFF and encoded[end - 1] == marker


@compiled()
def unstuff_tile(encoded, source, end, bits, start):  # type: ignore[no-untyped-def]
    """Number of bytes written to bits (n,) uint8 from start on, n - start at least end - source + 8; -1 for a marker in it."""
    at, stop, out = _U(source), _U(end), _U(start)
    while at + _8 <= stop:
        word = load(encoded, at)
        store(bits, out, word)
        # the high bit of each byte that is FF, exactly
        found = ((word & _LOW_BITS) + _EVERY_BYTE) & word & _HIGH_BITS
        if found == _0:
            at += _8
            out += _8
            continue
        taken = (leading_zeros(found) >> _3) + _1
        at += taken
        out += taken
        if at >= stop or encoded[at] != 0:
            return np.int64(-1)
        at += _1
    while at < stop:
        byte = encoded[at]
        bits[out] = byte
        at += _1
        out += _1
        if byte == 0xFF:
            if at >= stop or encoded[at] != 0:
                return np.int64(-1)
            at += _1
    return np.int64(out) - start
