"""Bits of JPEGs to coefficients: a thread decodes a tile, which no other tile is needed for, from its first bit to its last."""

from __future__ import annotations

from typing import Any

import numpy as np

from deit_fast.kernels.cuda.driver import cuda, device_function, kernel, launch
from deit_fast.kernels.jpeg.decode_blocks import NATURAL_ORDER
from deit_fast.kernels.jpeg.decode_tables import ENDS, NOTHING, entry_of
from deit_fast.kernels.jpeg.device_tables import (
    CODES,
    DAMAGED,
    END,
    FIRST_BLOCK,
    FIRST_TILE,
    HORIZONTAL,
    INTERVAL,
    IS_WHOLE,
    NUM_COMPONENTS,
    NUM_MCUS,
    SELECTED,
    START,
    TILE_COLUMNS,
    TILE_ROWS,
    UNSUPPORTED,
    VERTICAL,
)
from deit_fast.kernels.jpeg.huffman import symbol_of

THREADS = 128  # of a block that decodes the tiles of one JPEG: a photograph has about 84 under its crops

_LOOKUP_BITS = 10
_NUM_TABLES = 4  # two pairs: DC and AC
_LENGTHS = 17
_NUM_ENTRIES, _NUM_LENGTHS, _NUM_SYMBOLS = _NUM_TABLES << _LOOKUP_BITS, _NUM_TABLES * _LENGTHS, _NUM_TABLES * 256
_NUM_BEFORE = 3 * THREADS
_PLACES = NATURAL_ORDER // 2  # of coefficients in a row-by-row block, by their number in zigzag order

_U64 = np.uint64
_0, _1, _63 = np.uint64(0), np.uint64(1), np.uint64(63)
_8, _16, _255 = np.uint32(8), np.uint32(16), np.uint32(255)
_LOW_BITS, _EVERY_BYTE, _HIGH_BITS = np.uint32(0x7F7F7F7F), np.uint32(0x01010101), np.uint32(0x80808080)


@device_function
def _define_codes(encoded, at, is_dc, limits, offsets, symbols):  # type: ignore[no-untyped-def]
    """Fills what finds the codes of a table defined at a place: rows of one table. Gives whether the table is sound."""
    for i in range(_LENGTHS):
        limits[i] = 0
        offsets[i] = 0
    code = number = np.int64(0)
    for length in range(1, _LENGTHS):
        count = np.int64(encoded[at + length - 1])
        if (count > 0 and code + count >= 1 << length) or number + count > 256:
            return False
        offsets[length] = np.int32(number - code)
        for _ in range(count):
            symbols[number] = encoded[at + 16 + number]
            if is_dc and symbols[number] > 15:
                return False
            code += 1
            number += 1
        # where no code has this length, as for the shorter ones: no bits that come this far are below
        limits[length] = np.int32(code << (16 - length)) if count > 0 else limits[length - 1]
        code <<= 1
    return True


@device_function
def _entry_at(word, is_dc, longest, limits, offsets, symbols):  # type: ignore[no-untyped-def]
    """The entry of the code, of up to `longest` bits, that the coming bits begin with; NOTHING if there is none."""
    found = symbol_of(word, limits, offsets, symbols)
    length = found & 255
    if found < 0 or length > longest:
        return np.uint32(NOTHING)
    size = (found >> 8) & 15
    is_positive = size == 0 or (word << _U64(length)) >> _63 > _0
    return np.uint32(entry_of(found >> 8, np.int64(word >> _U64(64 - length)), length, is_positive, is_dc))


@device_function
def _swapped(word):  # type: ignore[no-untyped-def]
    """The four bytes of a word the other way round."""
    low = np.uint32(np.uint32(word << np.uint32(24)) | np.uint32(np.uint32(word & np.uint32(0xFF00)) << _8))
    return np.uint32(low | np.uint32(np.uint32(word >> _8) & np.uint32(0xFF00)) | np.uint32(word >> np.uint32(24)))


@device_function
def _unstuffed(encoded, words, at, end, bits, to):  # type: ignore[no-untyped-def]
    """Number of a tile's bits, -1 if there is a marker among its bytes, which lie from `at` to `end`.

    Writes the bits to words of `bits`, from `to` on, the first highest, zeros behind: a byte of 0 behind FF is none of them.
    """
    held, num_held, num_bits = _0, np.int32(0), np.int32(0)
    while at < end:
        four = np.uint32(words[_U64(at >> 2)]) if at & 3 == 0 and at + 4 <= end else np.uint32(0xFFFFFFFF)
        if np.uint32(np.uint32(np.uint32(four & _LOW_BITS) + _EVERY_BYTE) & np.uint32(four & _HIGH_BITS)) == 0:
            held |= _U64(_swapped(four)) << _U64(32 - num_held)
            num_held = np.int32(num_held + 32)
            at = np.int32(at + 4)
        else:
            byte = encoded[_U64(at)]
            at = np.int32(at + 1)
            if byte == 255:
                if at >= end or encoded[_U64(at)] != 0:
                    return np.int32(-1)
                at = np.int32(at + 1)
            held |= _U64(byte) << _U64(56 - num_held)
            num_held = np.int32(num_held + 8)
        if num_held >= 32:
            bits[_U64(to)] = np.int32(held >> _U64(32))
            to = np.int32(to + 1)
            held <<= _U64(32)
            num_held = np.int32(num_held - 32)
            num_bits = np.int32(num_bits + 32)
    if num_held > 0:
        bits[_U64(to)] = np.int32(held >> _U64(32))
    return np.int32(num_bits + num_held)


@device_function
def _long_entry(word, is_dc, table, limits, offsets, symbols):  # type: ignore[no-untyped-def]
    """The entry of a code that is longer than the lookup's, with which the coming bits begin; NOTHING if there is none."""
    coming, place = np.int32(word >> _U64(48)), _U64(table * _LENGTHS)
    if coming < limits[place + _U64(_LOOKUP_BITS - 1)] or coming >= limits[place + _U64(16)]:
        return np.uint32(NOTHING)
    length = np.int32(_LOOKUP_BITS)
    for shorter in range(_LOOKUP_BITS, 16):
        length = np.int32(length + (np.int32(1) if coming >= limits[place + _U64(shorter)] else np.int32(0)))
    number = np.int32((coming >> np.int32(16 - length)) + offsets[place + _U64(length)])
    symbol = np.int32(symbols[_U64(np.int32(256 * table) + number)])
    is_positive = symbol & 15 == 0 or (word << _U64(length)) >> _63 > _0
    return np.uint32(entry_of(symbol, np.int32(word >> _U64(64 - length)), length, is_positive, is_dc))


@kernel(threads=THREADS, blocks=8)
def _decode_tiles(encoded, words, jpegs, tiles, bits, coefficients, statuses):  # type: ignore[no-untyped-def]
    lookups = cuda.shared.array(_NUM_ENTRIES, np.uint32)
    limits = cuda.shared.array(_NUM_LENGTHS, np.int32)
    offsets = cuda.shared.array(_NUM_LENGTHS, np.int32)
    symbols = cuda.shared.array(_NUM_SYMBOLS, np.uint8)
    is_sound = cuda.shared.array(_NUM_TABLES, np.int32)
    places = cuda.shared.array(64, np.uint8)  # constant memory serves one address at a time
    before = cuda.shared.array(_NUM_BEFORE, np.int32)  # of each thread: DC of the block before, of each component

    number = np.int64(cuda.blockIdx.x)
    thread, num_threads = cuda.threadIdx.x, cuda.blockDim.x
    for i in range(thread, 64, num_threads):
        places[i] = _PLACES[i]
    for table in range(thread, _NUM_TABLES, num_threads):
        at, row = jpegs[number, CODES + table], table * _LENGTHS
        its_symbols = symbols[256 * table : 256 * (table + 1)]
        is_sound[table] = 1
        if at >= 0 and not _define_codes(
            encoded, at, table & 1 == 0, limits[row : row + _LENGTHS], offsets[row : row + _LENGTHS], its_symbols
        ):
            is_sound[table] = 0
            statuses[number] = UNSUPPORTED
    cuda.syncthreads()
    for i in range(thread, _NUM_ENTRIES, num_threads):
        table = i >> _LOOKUP_BITS
        row = table * _LENGTHS
        its_symbols = symbols[256 * table : 256 * (table + 1)]
        if jpegs[number, CODES + table] >= 0 and is_sound[table] == 1:
            window = _U64(i & ((1 << _LOOKUP_BITS) - 1)) << _U64(64 - _LOOKUP_BITS)
            its_limits, its_offsets = limits[row : row + _LENGTHS], offsets[row : row + _LENGTHS]
            # of shorter codes, the bit behind which tells the sign of the value
            lookups[i] = _entry_at(window, table & 1 == 0, _LOOKUP_BITS - 1, its_limits, its_offsets, its_symbols)
    cuda.syncthreads()
    if is_sound[0] + is_sound[1] + is_sound[2] + is_sound[3] < _NUM_TABLES:
        return

    num_tiles = jpegs[number, TILE_ROWS] * jpegs[number, TILE_COLUMNS]
    selected = np.int32(jpegs[number, SELECTED])
    num_luma = np.int32(jpegs[number, HORIZONTAL] * jpegs[number, VERTICAL])
    num_blocks = np.int32(num_luma + jpegs[number, NUM_COMPONENTS] - 1)
    first_pair, own = np.int32((selected & 1) << 1), _U64(3 * thread)
    for tile in range(thread, num_tiles, num_threads):
        row = jpegs[number, FIRST_TILE] + tile
        num_left = np.int32(tiles[row, NUM_MCUS] * num_blocks)
        if num_left == 0:
            continue
        # where no other tile's bits are: they begin at whole words, and end with one
        at = np.int32(((tiles[row, START] + 3) >> 2) + 2 * row)
        num_bits = _unstuffed(encoded, words, np.int32(tiles[row, START]), np.int32(tiles[row, END]), bits, at)
        end = np.int32(at + ((num_bits + 31) >> 5))
        word, available = _0, np.int32(0)  # coming bits, which begin at the top; zeros follow them
        following = np.uint32(0)  # the word behind these: it is asked for long before it is wanted
        if at < end:
            following = np.uint32(bits[_U64(at)])
        at = np.int32(at + 1)
        for place in range(3):
            before[own + _U64(place)] = 0
        to = _U64(jpegs[number, FIRST_BLOCK] + tile * jpegs[number, INTERVAL] * num_blocks) << _U64(6)
        block = component = np.int32(0)  # block: in its MCU
        pair = first_pair
        k = np.uint32(0)
        # One loop for all symbols of a tile: threads of a warp go on together, each in another place of its block. In a loop
        # for each block, all would wait for the longest
        while num_left > 0 and num_bits >= 0:
            if available <= 32:
                word |= _U64(following) << _U64(32 - available)
                available = np.int32(available + 32)
                following = np.uint32(bits[_U64(at)]) if at < end else np.uint32(0)
                at = np.int32(at + 1)
            is_dc = k == 0
            table = np.int32(pair if is_dc else pair + 1)
            entry = lookups[_U64(np.uint32(table << _LOOKUP_BITS) | np.uint32(word >> _U64(64 - _LOOKUP_BITS)))]
            if entry == NOTHING:
                entry = _long_entry(word, is_dc, table, limits, offsets, symbols)
            size = np.int32(entry & np.uint32(63))
            value = np.int32(np.uint32(np.uint32(word >> _U64(64 - size)) + np.uint32(entry >> _16)) & np.uint32(0xFFFF))
            word <<= _U64(size)
            available = np.int32(available - size)
            num_bits = np.int32(num_bits - size) if entry != NOTHING else np.int32(-1)
            k = np.uint32(k + np.uint32(np.uint32(entry >> _8) & _255))
            if is_dc:
                value = np.int32(value + before[own + _U64(component)])
                before[own + _U64(component)] = value
            if k <= 64 and entry != NOTHING:
                coefficients[to + _U64(places[_U64(k - np.uint32(1))])] = np.int16(value)
            if k >= 64:
                if k != 64 and k <= ENDS:
                    num_bits = np.int32(-1)
                k = np.uint32(0)
                to += _U64(64)
                num_left = np.int32(num_left - 1)
                block = np.int32(block + 1 if block + 1 < num_blocks else 0)
                component = max(np.int32(0), np.int32(block - num_luma + 1))
                pair = np.int32((selected >> component & 1) << 1)
        if num_bits < 0 or (tiles[row, IS_WHOLE] == 1 and num_bits >= 8):
            cuda.atomic.max(statuses, number, np.int32(DAMAGED))


def decode_bits(
    encoded: tuple[Any, Any],
    jpegs: Any,
    tiles: Any,
    num_jpegs: int,
    bits: Any,
    coefficients: Any,
    statuses: Any,
) -> None:
    """Queues the decoding of a batch's tiles. Arguments as for `jpeg.decode`."""
    launch(_decode_tiles, num_jpegs, THREADS, *encoded, jpegs, tiles, bits, coefficients, statuses)
