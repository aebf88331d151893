"""Takes the bits of restart intervals, gives the coefficients of their blocks.

A symbol is found, its value cut out and stored, and new bits are fetched without a branch but for the end of the block: the
end, and a code that the lookup does not know, store something where it does not matter. Two intervals are decoded
at once, since each step of one waits for the lookup before.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, register_jitable

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg.decode_tables import ENDS, LOOKUP_BITS, NOTHING, UNKNOWN, entry_of, long_codes
from deit_fast.kernels.jpeg.huffman import symbol_of

_U = np.uint64  # Numba makes floats of sums of signed and unsigned integers
_0, _1, _2, _3, _7, _8, _16, _24, _32 = (np.uint64(number) for number in (0, 1, 2, 3, 7, 8, 16, 24, 32))
_40, _63, _64, _255 = (np.uint64(number) for number in (40, 63, 64, 255))
_WINDOW_SHIFT = np.uint64(64 - LOOKUP_BITS)
_ENDED = np.uint64(ENDS)
_NOT_KNOWN = np.uint64(UNKNOWN)
BLOCK_BYTES = np.uint64(128)

# The places of coefficients in a row-by-row block, in bytes, by the number of the next. What comes behind the 64th is stored
# where the next block begins, which is written later.
_ZIGZAG = sorted(range(64), key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8))
NATURAL_ORDER = np.array([2 * place for place in _ZIGZAG], np.uint8)
_PLACES = np.array([0] + [2 * place for place in _ZIGZAG] + [int(BLOCK_BYTES)] * (512 - 65), np.uint8)


def _make_load(bits: int, is_big_endian: bool):  # type: ignore[no-untyped-def]
    @intrinsic
    def load(typing_context, address):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            value = builder.load(builder.inttoptr(arguments[0], ir.IntType(bits).as_pointer()), align=1)
            value = builder.bswap(value) if is_big_endian else value
            return builder.zext(value, ir.IntType(64)) if bits < 64 else value

        return types.uint64(types.uint64), codegen

    return load


def _make_store(bits: int):  # type: ignore[no-untyped-def]
    @intrinsic
    def store(typing_context, address, value):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            address, value = arguments
            value = builder.trunc(value, ir.IntType(bits)) if bits < 64 else value
            builder.store(value, builder.inttoptr(address, ir.IntType(bits).as_pointer()), align=1)
            return context.get_dummy_value()

        return types.void(types.uint64, types.uint64), codegen

    return store


# By addresses, not arrays: for each array that is passed on, even to an inlined function, references are counted, which
# took as long as the decoding
_coming_bits, _word_at, _number_at = _make_load(64, True), _make_load(64, False), _make_load(32, False)
_store_word, _store_coefficient = _make_store(64), _make_store(16)


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
def _take(word, used, k, entry, block):  # type: ignore[no-untyped-def]
    """Stores the coefficient of an AC symbol: (word, used, k) after it; the word holds all bits of the symbol."""
    k += (entry >> _8) & _255
    _store_coefficient(block + _U(_PLACES[k]), _value(word, entry))
    return word << (entry & _63), used + (entry & _63), k


@register_jitable(forceinline=True)
def _step(word, used, at, k, table, block):  # type: ignore[no-untyped-def]
    """One AC symbol: (word, used, at, k) after it.

    word: the coming bits, of which at least LOOKUP_BITS are there, and at least 37 afterwards; at, used: address of a byte,
    and how many bits from there on they follow; k: the coefficient that is next; table: address of the lookup; block: address
    of the coefficients.
    """
    entry = _look(word, table)  # which does not wait for the bits that are fetched
    word, used, at = _fetch(used, at)
    word, used, k = _take(word, used, k, entry, block)
    return word, used, at, k


@register_jitable(forceinline=True)
def _next_step(word, used, k, table, block):  # type: ignore[no-untyped-def]
    """`_step`, right after one, from the bits that are left of the last fetch: 57, less twice the 20 of the longest symbol that
    a lookup knows, are enough for the next look, and for the longest DC code."""
    return _take(word, used, k, _look(word, table), block)


@compiled()
def _long_entry(word, table, is_dc):  # type: ignore[no-untyped-def]
    """The entry of a code that a lookup does not know; NOTHING if there is none."""
    limits, offsets, symbols = long_codes(np.int64(table))
    found = symbol_of(word, limits, offsets, symbols)
    if found < 0:
        return NOTHING
    length = found & 255
    is_positive = (found >> 8) & 15 == 0 or (word << _U(length)) >> _63 > _0
    return entry_of(found >> 8, np.int64(word >> _U(64 - length)), length, is_positive, is_dc)


@register_jitable(forceinline=True)
def _begin_block(word, used, at, place, block, stream):  # type: ignore[no-untyped-def]
    """(word, used, at, whether the code is sound) after the DC symbol of a block whose plan lies at a place."""
    table, before = _word_at(place), stream + _word_at(place + _16)
    entry = _look(word, table)
    if entry == _U(NOTHING):
        entry = _U(_long_entry(word, table, True))
    word, used, at = _fetch(used, at)
    value = _word_at(before) + _value(word, entry)
    _store_word(before, value)
    _store_coefficient(block, value)
    return word << (entry & _63), used + (entry & _63), at, entry != _U(NOTHING)


@register_jitable(forceinline=True)
def _end_block(word, used, at, k, place, block, end, end_block, table, plan, end_plan, stream):  # type: ignore[no-untyped-def]
    """(word, used, at, k, place, block, is it sound) after what a lookup did not know, or the beginning of the next block."""
    is_sound = True
    if k > _NOT_KNOWN:
        entry = _U(_long_entry(word, table, False))
        word, used, at = _fetch(used, at)
        word, used, k = _take(word, used, k - _NOT_KNOWN, entry, block)
        is_sound = entry != _U(NOTHING)
    if k >= _64:
        is_sound &= ((k == _64) | (k > _ENDED)) & (at * _8 + used <= end)
        block += BLOCK_BYTES
        place = place + _32 if place + _32 != end_plan else plan
        if block < end_block:
            word, used, at, is_known = _begin_block(word, used, at, place, block, stream)
            is_sound &= is_known
            k = _1
    return word, used, at, k, place, block, is_sound


@register_jitable(forceinline=True)
def _begin(stream, plan):  # type: ignore[no-untyped-def]
    """State of a stream at its first AC symbol."""
    for component in range(3):
        _store_word(stream + _40 + _8 * _U(component), _0)
    at, block = _word_at(stream), _word_at(stream + _16)
    word, used, at, is_sound = _begin_block(_coming_bits(at), _0, at, plan, block, stream)
    return word, used, at, _1, plan, block, is_sound


@compiled()
def _go_on(word, used, at, k, place, block, is_sound, stream, plan, end_plan):  # type: ignore[no-untyped-def]
    """Decodes a stream from a state to its last block, and writes where that ends; whether all is sound."""
    end, end_block = _word_at(stream + _8), _word_at(stream + _24)
    table = _word_at(place + _8)
    while is_sound and block < end_block:
        while k < _64:
            word, used, at, k = _step(word, used, at, k, table, block)
            if k < _64:
                word, used, k = _next_step(word, used, k, table, block)
        word, used, at, k, place, block, is_sound = _end_block(
            word, used, at, k, place, block, end, end_block, table, plan, end_plan, stream
        )
        table = _word_at(place + _8)
    _store_word(stream + _32, at * _8 + used)
    return is_sound


@compiled()
def decode_streams(streams, count, plan, end_plan):  # type: ignore[no-untyped-def]
    """Whether the blocks of `count` restart intervals are sound; writes their coefficients, where there are zeros.

    Two at a time: where one ends, the next begins, and the last goes on alone. All but count are addresses, as uint64. streams:
    of eight uint64 for each interval: address of the first byte of bits; that of their end, times 8, behind
    which `bitstream.PADDING` bytes are readable; address of the first coefficient; of the end of the last block, where there is
    room for one more; then written: the place of the first bit not used, times 8; scratch. plan, four uint64 for each block
    of an MCU: addresses of its DC and AC lookups, 40 + 8 * component, any; end_plan: their end.
    """
    stream, stream2, following, end_streams = streams, streams + _64, streams + _64 + _64, streams + _64 * _U(count)
    word, used, at, k, place, block, is_sound = _begin(stream, plan)
    if count == 1:
        return _go_on(word, used, at, k, place, block, is_sound, stream, plan, end_plan)
    word2, used2, at2, k2, place2, block2, is_sound2 = _begin(stream2, plan)
    end, end_block = _word_at(stream + _8), _word_at(stream + _24)
    end2, end_block2 = _word_at(stream2 + _8), _word_at(stream2 + _24)
    table, table2 = _word_at(place + _8), _word_at(place2 + _8)
    while is_sound and is_sound2:
        while (k | k2) < _64:
            word, used, at, k = _step(word, used, at, k, table, block)
            word2, used2, at2, k2 = _step(word2, used2, at2, k2, table2, block2)
            if (k | k2) < _64:
                word, used, k = _next_step(word, used, k, table, block)
                word2, used2, k2 = _next_step(word2, used2, k2, table2, block2)
        if k >= _64:
            word, used, at, k, place, block, is_sound = _end_block(
                word, used, at, k, place, block, end, end_block, table, plan, end_plan, stream
            )
            if block == end_block and is_sound:
                _store_word(stream + _32, at * _8 + used)
                if following == end_streams:
                    return _go_on(word2, used2, at2, k2, place2, block2, is_sound2, stream2, plan, end_plan)
                stream, following = following, following + _64
                word, used, at, k, place, block, is_sound = _begin(stream, plan)
                end, end_block = _word_at(stream + _8), _word_at(stream + _24)
            table = _word_at(place + _8)
        if k2 >= _64:
            word2, used2, at2, k2, place2, block2, is_sound2 = _end_block(
                word2, used2, at2, k2, place2, block2, end2, end_block2, table2, plan, end_plan, stream2
            )
            if block2 == end_block2 and is_sound2:
                _store_word(stream2 + _32, at2 * _8 + used2)
                if following == end_streams:
                    return _go_on(word, used, at, k, place, block, is_sound, stream, plan, end_plan)
                stream2, following = following, following + _64
                word2, used2, at2, k2, place2, block2, is_sound2 = _begin(stream2, plan)
                end2, end_block2 = _word_at(stream2 + _8), _word_at(stream2 + _24)
            table2 = _word_at(place2 + _8)
    return False


@register_jitable(forceinline=True)
def _resumed(stream, plan):  # type: ignore[no-untyped-def]
    """State of a stream that was left, or whose next block is to begin."""
    bit, block, k, place = _word_at(stream + _32), _word_at(stream + _16), _word_at(stream + _64), _word_at(stream)
    at, used = bit >> _3, bit & _7
    word, is_sound = _coming_bits(at) << used, True
    if k == _0:
        word, used, at, is_sound = _begin_block(word, used, at, plan, block, stream)
        k, place = _1, plan
    return word, used, at, k, place, block, is_sound


@register_jitable(forceinline=True)
def _leave(used, at, k, place, block, stream):  # type: ignore[no-untyped-def]
    """Writes what `_resumed` needs."""
    _store_word(stream, place)
    _store_word(stream + _16, block)
    _store_word(stream + _32, at * _8 + used)
    _store_word(stream + _64, k)


@compiled()
def decode_on(stream, plan, end_plan):  # type: ignore[no-untyped-def]
    """Decodes one stream on to its last block, with the DC values as they are. Whether it is sound.

    Arguments as for `decode_streams`, but for the stream, which has a ninth number. It goes on at the bit that was written (the
    fifth), at the block of the third: with the ninth at 0 that block begins; else it is in the middle, where `decode_two` left
    it.
    """
    word, used, at, k, place, block, is_sound = _resumed(stream, plan)
    return _go_on(word, used, at, k, place, block, is_sound, stream, plan, end_plan)


@compiled()
def decode_two(stream, plan, end_plan, stream2, plan2, end_plan2):  # type: ignore[no-untyped-def]
    """Decodes two streams on, as `decode_on`, until one of them has its last block: which, 0 or 1; 2 or 3 if it is not sound.

    The other is left where it is.
    """
    word, used, at, k, place, block, is_sound = _resumed(stream, plan)
    word2, used2, at2, k2, place2, block2, is_sound2 = _resumed(stream2, plan2)
    end, end_block = _word_at(stream + _8), _word_at(stream + _24)
    end2, end_block2 = _word_at(stream2 + _8), _word_at(stream2 + _24)
    table, table2 = _word_at(place + _8), _word_at(place2 + _8)
    while is_sound and is_sound2 and block != end_block and block2 != end_block2:
        while (k | k2) < _64:
            word, used, at, k = _step(word, used, at, k, table, block)
            word2, used2, at2, k2 = _step(word2, used2, at2, k2, table2, block2)
            if (k | k2) < _64:
                word, used, k = _next_step(word, used, k, table, block)
                word2, used2, k2 = _next_step(word2, used2, k2, table2, block2)
        if k >= _64:
            word, used, at, k, place, block, is_sound = _end_block(
                word, used, at, k, place, block, end, end_block, table, plan, end_plan, stream
            )
            table = _word_at(place + _8)
        if k2 >= _64:
            word2, used2, at2, k2, place2, block2, is_sound2 = _end_block(
                word2, used2, at2, k2, place2, block2, end2, end_block2, table2, plan2, end_plan2, stream2
            )
            table2 = _word_at(place2 + _8)
    _leave(used, at, k, place, block, stream)
    _leave(used2, at2, k2, place2, block2, stream2)
    if not (is_sound or is_sound2):  # the second must stay unsound: it gets no more blocks, and has used more bits than it has
        _store_word(stream2 + _8, _0)
        _store_word(stream2 + _16, end_block2)
    if not (is_sound and is_sound2):
        return np.int64(3 if is_sound else 2)
    return np.int64(0 if block == end_block else 1)
