"""Takes the bits of one or two restart intervals, gives the coefficients of their blocks.

A symbol is found, its value cut out and stored, and new bits are fetched without a branch but for the end of the block: the
end, and a code that the lookup does not know, store something where it does not matter. Two intervals are decoded
at once, since each step of one waits for the lookup before.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, register_jitable

from deit_fast.augment.compiled import compiled
from deit_fast.data.jpeg.decode_tables import ENDS, LOOKUP_BITS, NOTHING, UNKNOWN, entry_of
from deit_fast.data.jpeg.huffman import symbol_of

_U = np.uint64  # Numba makes floats of sums of signed and unsigned integers
_0, _1, _2, _3, _7, _8, _16, _63, _64, _255 = (np.uint64(number) for number in (0, 1, 2, 3, 7, 8, 16, 63, 64, 255))
_WINDOW_SHIFT = np.uint64(64 - LOOKUP_BITS)
_ENDED = np.uint64(ENDS)
_NOT_KNOWN = np.uint64(UNKNOWN)
BLOCK_BYTES = np.uint64(128)

# The places of coefficients in a row-by-row block, in bytes, by the number of the next. What comes behind the 64th is stored
# where the next block begins, which is written later.
_ZIGZAG = sorted(range(64), key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8))
NATURAL_ORDER = np.array([2 * place for place in _ZIGZAG], np.uint8)
_PLACES = np.array([0] + [2 * place for place in _ZIGZAG] + [int(BLOCK_BYTES)] * (512 - 65), np.uint8)


def _make_load(bits: int):  # type: ignore[no-untyped-def]
    @intrinsic
    def load(typing_context, address):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            value = builder.load(builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer()), align=1)
            return builder.bswap(value) if bits == 64 else builder.zext(value, ir.IntType(64))

        return types.uint64(types.uint64), codegen

    return load


_coming_bits = _make_load(64)  # eight bytes, the first the most significant
_number_at = _make_load(32)


@intrinsic
def _store_coefficient(typing_context, address, value):  # type: ignore[no-untyped-def]
    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointer = builder.inttoptr(arguments[0], ir.IntType(16).as_pointer())
        builder.store(builder.trunc(arguments[1], ir.IntType(16)), pointer, align=2)
        return context.get_dummy_value()

    return types.void(types.uint64, types.uint64), codegen


@register_jitable(forceinline=True)
def _fetch(used, at):  # type: ignore[no-untyped-def]
    """(at least 57 coming bits, used, at) where `used` bits, from those at an address on, have been used."""
    at += used >> _3
    used &= _7
    return _coming_bits(at) << used, used, at


@register_jitable(forceinline=True)
def _look(word, table):  # type: ignore[no-untyped-def]
    return _number_at(table + ((word >> _WINDOW_SHIFT) << _2))


@register_jitable(forceinline=True)
def _value(word, entry):  # type: ignore[no-untyped-def]
    """The value of an entry, in the lower 16 bits, from the coming bits."""
    return (word >> ((_0 - entry) & _63)) + (entry >> _16)


@register_jitable(forceinline=True)
def _take(word, used, at, k, entry, block):  # type: ignore[no-untyped-def]
    """Stores the coefficient of an AC symbol; what `_step` does."""
    word, used, at = _fetch(used, at)
    k += (entry >> _8) & _255
    _store_coefficient(block + _U(_PLACES[k]), _value(word, entry))
    return word << (entry & _63), used + (entry & _63), at, k


@register_jitable(forceinline=True)
def _step(word, used, at, k, table, block):  # type: ignore[no-untyped-def]
    """One AC symbol: (word, used, at, k) after it.

    word: the coming bits, of which at least 30 are there; at, used: address of a byte, and how many bits from there on they
    follow; k: the coefficient that is next; table: address of the lookup; block: address of the coefficients.
    """
    # the look does not wait for the bits that are fetched
    return _take(word, used, at, k, _look(word, table), block)


@compiled()
def _long_entry(word, table, tables):  # type: ignore[no-untyped-def]
    """The entry of a code that a lookup does not know; NOTHING if there is none."""
    _, limits, offsets, symbols = tables
    found = symbol_of(word, limits[table], offsets[table], symbols[table])
    if found < 0:
        return NOTHING
    length = found & 255
    is_positive = (found >> 8) & 15 == 0 or (word << _U(length)) >> _63 > _0
    return entry_of(found >> 8, np.int64(word >> _U(64 - length)), length, is_positive, table < 4)


@register_jitable(forceinline=True)
def _begin_block(word, used, at, number, block, lookups, plan, before, tables):  # type: ignore[no-untyped-def]
    """(word, used, at, whether the code is sound) after the DC symbol of the MCU's block of a number."""
    table = plan[number, 0]
    entry = _look(word, lookups[table])
    if entry == _U(NOTHING):
        entry = _U(_long_entry(word, table, tables))
    word, used, at = _fetch(used, at)
    value = before[plan[number, 2]] + _value(word, entry)
    before[plan[number, 2]] = value
    _store_coefficient(block, value)
    return word << (entry & _63), used + (entry & _63), at, entry != _U(NOTHING)


@register_jitable(forceinline=True)
def _end_block(word, used, at, k, number, block, end, end_block, lookups, plan, before, tables):  # type: ignore[no-untyped-def]
    """(word, used, at, k, number, block, is it sound) after what a lookup did not know, or the beginning of the next block."""
    is_sound = True
    if k > _NOT_KNOWN:
        entry = _U(_long_entry(word, plan[number, 1], tables))
        word, used, at, k = _take(word, used, at, k - _NOT_KNOWN, entry, block)
        is_sound = entry != _U(NOTHING)
    if k >= _64:
        is_sound &= (k == _64 or k > _ENDED) and at * _8 + used <= end
        block += BLOCK_BYTES
        number += _1
        if number == _U(len(plan)):
            number = _0
        if block < end_block:
            word, used, at, is_known = _begin_block(word, used, at, number, block, lookups, plan, before, tables)
            is_sound &= is_known
            k = _1
    return word, used, at, k, number, block, is_sound


@register_jitable(forceinline=True)
def _begin(stream, before, lookups, plan, tables):  # type: ignore[no-untyped-def]
    """State of a stream at its first AC symbol."""
    before[:] = 0
    at, block = stream[0], stream[2]
    word, used, at, is_sound = _begin_block(_coming_bits(at), _0, at, _0, block, lookups, plan, before, tables)
    return word, used, at, _1, _0, block, is_sound


@compiled()
def _go_on(word, used, at, k, number, block, is_sound, stream, before, lookups, plan, tables):  # type: ignore[no-untyped-def]
    """Decodes a stream from a state to its last block, and writes where that ends; whether all is sound."""
    end, end_block = stream[1], stream[3]
    table = lookups[plan[number, 1]]
    while is_sound and block < end_block:
        while k < _64:
            word, used, at, k = _step(word, used, at, k, table, block)
        word, used, at, k, number, block, is_sound = _end_block(
            word, used, at, k, number, block, end, end_block, lookups, plan, before, tables
        )
        table = lookups[plan[number, 1]]
    stream[4] = at * _8 + used
    return is_sound


@compiled()
def decode_one(stream, before, lookups, plan, tables):  # type: ignore[no-untyped-def]
    """Whether the blocks of a restart interval are sound; writes their coefficients, where there are zeros.

    stream (5,) uint64: address of the first byte of bits, `bitstream.PADDING` bytes behind which are readable; end of the bits,
    in bits; address of the first coefficient, and of the end of the last block's; here the place of the first bit not used is
    written. before (3,) uint64: scratch. lookups (8,) uint64: addresses of the lookups of Huffman tables; plan (b, 3) uint64:
    DC table, AC table, component of each block of an MCU; tables: all tables' lookups, limits, offsets and symbols.
    """
    word, used, at, k, number, block, is_sound = _begin(stream, before, lookups, plan, tables)
    return _go_on(word, used, at, k, number, block, is_sound, stream, before, lookups, plan, tables)


@compiled()
def decode_two(streams, before, lookups, plan, tables):  # type: ignore[no-untyped-def]
    """decode_one for two at once; streams (2, 5), before (2, 3)."""
    first, second, first_before, second_before = streams[0], streams[1], before[0], before[1]
    word, used, at, k, number, block, is_sound = _begin(first, first_before, lookups, plan, tables)
    word2, used2, at2, k2, number2, block2, is_sound2 = _begin(second, second_before, lookups, plan, tables)
    end, end_block, end2, end_block2 = first[1], first[3], second[1], second[3]
    table, table2 = lookups[plan[number, 1]], lookups[plan[number2, 1]]
    while is_sound and is_sound2 and block < end_block and block2 < end_block2:
        while (k | k2) < _64:
            word, used, at, k = _step(word, used, at, k, table, block)
            word2, used2, at2, k2 = _step(word2, used2, at2, k2, table2, block2)
        if k >= _64:
            word, used, at, k, number, block, is_sound = _end_block(
                word, used, at, k, number, block, end, end_block, lookups, plan, first_before, tables
            )
            table = lookups[plan[number, 1]]
        if k2 >= _64:
            word2, used2, at2, k2, number2, block2, is_sound2 = _end_block(
                word2, used2, at2, k2, number2, block2, end2, end_block2, lookups, plan, second_before, tables
            )
            table2 = lookups[plan[number2, 1]]
    is_sound = _go_on(word, used, at, k, number, block, is_sound, first, first_before, lookups, plan, tables)
    is_sound2 = _go_on(word2, used2, at2, k2, number2, block2, is_sound2, second, second_before, lookups, plan, tables)
    return is_sound and is_sound2
