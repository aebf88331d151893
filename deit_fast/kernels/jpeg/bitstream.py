"""Takes the entropy-coded data of a JPEG as bytes, gives its bits without stuffing and markers, or where its markers are.

A JPEG has a zero after each FF byte of its data, so that markers can be told from them. Bits are read eight bytes at a time:
a buffer of bits has PADDING bytes behind its last.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, register_jitable

from deit_fast.kernels.compiled import compiled

PADDING = 512  # the bits of a block are at most 27 + 63 * 26, which are 209 bytes

OK = 0
NO_END = 1
OTHER_MARKER = 2
WRONG_RESTART = 3
NO_SYMBOL = 4
TOO_MANY_COEFFICIENTS = 5
DC_OUT_OF_RANGE = 6
TOO_SHORT = 7
TOO_LONG = 8
NO_CODE = 9

REASONS = {
    NO_END: "no end marker",
    OTHER_MARKER: "another marker inside the scan",
    WRONG_RESTART: "restart markers not where they belong",
    NO_SYMBOL: "Huffman code of no symbol",
    TOO_MANY_COEFFICIENTS: "more than 64 coefficients in a block",
    DC_OUT_OF_RANGE: "DC coefficient out of range",
    TOO_SHORT: "the data end early",
    TOO_LONG: "bytes left over",
    NO_CODE: "coefficient out of range",
}

ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
_EVERY_BYTE = np.uint64(0x0101010101010101)
_HIGH_BITS = np.uint64(0x8080808080808080)
_U = np.uint64  # Numba makes floats of sums of signed and unsigned integers
_0, _1, _3, _7, _8, _56 = (np.uint64(number) for number in (0, 1, 3, 7, 8, 56))


@intrinsic
def load(typing_context, array, at):  # type: ignore[no-untyped-def]
    """The eight bytes from array[at] on, the first the most significant. Bounds are the caller's."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(64).as_pointer())
        word = builder.load(pointer)
        word.align = 1
        return builder.bswap(word)

    return types.uint64(array, types.uint64), codegen


@intrinsic
def load_at(typing_context, address):  # type: ignore[no-untyped-def]
    """`load` from an address: for each array that is passed on to a function that is inlined, references are counted."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        word = builder.load(builder.inttoptr(arguments[0], ir.IntType(64).as_pointer()), align=1)
        return builder.bswap(word)

    return types.uint64(types.uint64), codegen


@intrinsic
def store(typing_context, array, at, word):  # type: ignore[no-untyped-def]
    """Writes a word to the eight bytes from array[at] on, as `load` reads it."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        pointer = builder.bitcast(builder.gep(data, [arguments[1]]), ir.IntType(64).as_pointer())
        builder.store(builder.bswap(arguments[2]), pointer, align=1)
        return context.get_dummy_value()

    return types.void(array, types.uint64, types.uint64), codegen


@register_jitable(inline="always")
def ff_bytes(word):  # type: ignore[no-untyped-def]
    """Not 0 if any byte is FF."""
    return (~word - _EVERY_BYTE) & word & _HIGH_BITS


@register_jitable(inline="always")
def bits_from(bits, cursor):  # type: ignore[no-untyped-def]
    """The 64 bits from a bit on."""
    at = cursor >> _3
    shift = cursor & _7
    return (load(bits, at) << shift) | (_U(bits[at + _8]) >> (_8 - shift))


@compiled()
def stuff(out, at, word, num_bytes):  # type: ignore[no-untyped-def]
    """Writes the first num_bytes of a word, with a zero after each FF; where the next goes."""
    for _ in range(num_bytes):
        byte = word >> _56
        out[at] = byte
        at += _1
        if byte == _U(255):
            out[at] = 0
            at += _1
        word <<= _8
    return at


@compiled()
def unstuff(encoded, start, bits, resets):  # type: ignore[no-untyped-def]
    """(status, bytes of bits, number of restart markers, where the end marker's two bytes end) of a scan's data.

    encoded (n,) uint8, read from start on. Written: bits (>= n + PADDING,) uint8 without the zeros after FF bytes and without
    markers, zeros behind; resets (k,) int64: the place in bits after each restart marker, of which there may be k.
    """
    size = _U(encoded.size)
    at = _U(start)
    out = _0
    num_resets = _0
    while True:
        while at + _8 <= size:
            word = load(encoded, at)
            store(bits, out, word)
            if ff_bytes(word) != _0:
                break
            at += _8
            out += _8
        while at < size and encoded[at] != 0xFF:
            bits[out] = encoded[at]
            at += _1
            out += _1
        if at + _1 < size and encoded[at + _1] == 0:
            bits[out] = 0xFF
            at += _U(2)
            out += _1
            continue
        while at + _1 < size and encoded[at + _1] == 0xFF:
            at += _1
        if at + _1 >= size:
            return NO_END, np.int64(out), np.int64(num_resets), np.int64(at)
        marker = _U(encoded[at + _1])
        at += _U(2)
        if marker == _U(0xD9):
            bits[np.int64(out) : np.int64(out) + PADDING] = 0
            return OK, np.int64(out), np.int64(num_resets), np.int64(at)
        if marker < _U(0xD0) or marker > _U(0xD7):
            return OTHER_MARKER, np.int64(out), np.int64(num_resets), np.int64(at)
        if marker != _U(0xD0) + (num_resets & _7) or num_resets >= _U(resets.size):
            return WRONG_RESTART, np.int64(out), np.int64(num_resets), np.int64(at)
        resets[num_resets] = out
        num_resets += _1


@compiled()
def find_tiles(encoded, start, tiles):  # type: ignore[no-untyped-def]
    """Status of writing the bytes of each restart interval, with the marker after it, into tiles (number of tiles,) uint32.

    encoded (n,) uint8: a JPEG, its entropy-coded data from start on. The codes are not looked at.
    """
    size = _U(encoded.size)
    at = _U(start)
    tile_start = at
    tile = 0
    while True:
        while at + _U(32) <= size:
            found = ff_bytes(load(encoded, at)) | ff_bytes(load(encoded, at + _8))
            found |= ff_bytes(load(encoded, at + _U(16))) | ff_bytes(load(encoded, at + _U(24)))
            if found != _0:
                break
            at += _U(32)
        while at < size and encoded[at] != 0xFF:
            at += _1
        while at + _1 < size and encoded[at + _1] == 0xFF:
            at += _1
        if at + _1 >= size:
            return NO_END
        marker = np.int64(encoded[at + _1])
        at += _U(2)
        if marker == 0:
            continue
        is_last = tile == tiles.size - 1
        if marker != (0xD9 if is_last else 0xD0 + (tile & 7)):
            return WRONG_RESTART if marker == 0xD9 or 0xD0 <= marker <= 0xD7 else OTHER_MARKER
        tiles[tile] = at - tile_start
        if is_last:
            return OK
        tile_start = at
        tile += 1
