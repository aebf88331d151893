"""Tiles of JPEGs to pixels, bit for bit libjpeg-turbo's, in three kernels: bits, coefficients, samples.

A tile can be decoded without any other, so a thread takes one from its first bit to its last; a batch has thousands. All tables
are those of `kernels.jpeg.device_tables`. Whatever the bytes hold, nothing outside a JPEG's own memory is read or written.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deit_fast.kernels.cuda.driver import cuda, device_function, kernel, launch
from deit_fast.kernels.jpeg import scalar
from deit_fast.kernels.jpeg.decode_blocks import NATURAL_ORDER
from deit_fast.kernels.jpeg.decode_tables import ENDS, NOTHING, entry_of
from deit_fast.kernels.jpeg.device_tables import (
    CODES,
    COLUMNS,
    DAMAGED,
    END,
    FACTORS,
    FIRST_BLOCK,
    FIRST_PIXEL,
    FIRST_SAMPLE,
    FIRST_TILE,
    HORIZONTAL,
    INTERVAL,
    IS_WHOLE,
    NUM_COMPONENTS,
    NUM_MCUS,
    ROWS,
    SELECTED,
    START,
    TILE_COLUMNS,
    TILE_ROWS,
    UNSUPPORTED,
    VERTICAL,
    WANTED,
)
from deit_fast.kernels.jpeg.huffman import symbol_of

TILE_THREADS = 128  # of a block that decodes the tiles of one JPEG: a photograph has about 84 under its crops
BLOCK_THREADS = 256  # of one that transforms: eight for each block of coefficients
PIXEL_THREADS = 256
_BLOCK_PIXELS = 8 * PIXEL_THREADS  # of which each thread makes every 256th

_LOOKUP_BITS = 10
_NUM_TABLES = 4  # two pairs: DC and AC
_LENGTHS = 17
_NUM_ENTRIES, _NUM_LENGTHS, _NUM_SYMBOLS = _NUM_TABLES << _LOOKUP_BITS, _NUM_TABLES * _LENGTHS, _NUM_TABLES * 256
_NUM_BEFORE = 3 * TILE_THREADS
_PLACES = NATURAL_ORDER // 2  # of coefficients in a row-by-row block, by their number in zigzag order
_NUMBERS = np.argsort(_PLACES).astype(np.uint8)  # and the other way round
_ROW = 9  # int32 of shared memory for a row of a block: one more than it has, so that columns lie in other banks
_BLOCK = 8 * _ROW
_NUM_BETWEEN = BLOCK_THREADS // 8 * _BLOCK

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


@kernel(threads=TILE_THREADS, blocks=8)
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


@device_function
def _last_from(table, column, base, unit, value, count):  # type: ignore[no-untyped-def]
    """The last row whose (column - base) / unit is not above a value; they rise from 0."""
    first, end = np.int64(0), np.int64(count)
    while end - first > 1:
        middle = (first + end) >> 1
        if table[middle, column] - base <= value * unit:
            first = middle
        else:
            end = middle
    return first


@device_function
def _factor(encoded, at, place):  # type: ignore[no-untyped-def]
    """The factor of a coefficient, as int16, from a quantisation table in a DQT segment."""
    number = np.int64(_NUMBERS[_U64(place)])
    if encoded[_U64(at)] >> 4 > 0:
        high, low = encoded[_U64(at + 1 + 2 * number)], encoded[_U64(at + 2 + 2 * number)]
        return np.int32(np.int16(np.int32(high) << np.int32(8) | np.int32(low)))
    return np.int32(encoded[_U64(at + 1 + number)])


@device_function
def _divided(value, divisor):  # type: ignore[no-untyped-def]
    """(quotient, remainder) of two numbers from 0 up to 2**32, as int64; a device divides such faster than longer ones."""
    quotient = np.uint32(np.uint32(value) // np.uint32(divisor))
    return np.int64(quotient), np.int64(np.uint32(np.uint32(value) - np.uint32(quotient * np.uint32(divisor))))


@device_function
def _place_of(jpegs, jpeg, number):  # type: ignore[no-untyped-def]
    """(component, row, column) of a block in its plane, by its number among all; component: -1 where none of it is wanted."""
    horizontal, vertical = jpegs[jpeg, HORIZONTAL], jpegs[jpeg, VERTICAL]
    num_luma = horizontal * vertical
    in_mcu = num_luma + jpegs[jpeg, NUM_COMPONENTS] - 1
    mcu, block = _divided(number - jpegs[jpeg, FIRST_BLOCK], in_mcu)
    tile, mcu = _divided(mcu, jpegs[jpeg, INTERVAL])
    row, column = _divided(tile, jpegs[jpeg, TILE_COLUMNS])
    column = column * jpegs[jpeg, INTERVAL] + mcu
    component = max(np.int64(0), block - num_luma + 1)
    if component == 0:  # factors are 1 or 2
        row = row * vertical + (block >> (horizontal - 1))
        column = column * horizontal + (block & (horizontal - 1))
    wanted = WANTED if component == 0 else WANTED + 4
    if not (
        jpegs[jpeg, wanted] <= row < jpegs[jpeg, wanted + 1] and jpegs[jpeg, wanted + 2] <= column < jpegs[jpeg, wanted + 3]
    ):
        component = np.int64(-1)
    return component, row, column


@device_function
def _dequantised(encoded, at, coefficients, number, line, row):  # type: ignore[no-untyped-def]
    """`scalar.dequantised` of the coefficient in a row and column (`line`) of a block."""
    return scalar.dequantised(coefficients[_U64(64 * number + 8 * row + line)], _factor(encoded, at, 8 * row + line))


@kernel(threads=BLOCK_THREADS, blocks=4)
def _transform(encoded, jpegs, num_jpegs, num_blocks, coefficients, samples, statuses):  # type: ignore[no-untyped-def]
    """Eight threads make the columns of a block, and then its rows. samples: int32, four to a word."""
    between = cuda.shared.array(_NUM_BETWEEN, np.int32)
    thread, num_threads = cuda.threadIdx.x, cuda.blockDim.x
    first = np.int64(cuda.blockIdx.x) * (BLOCK_THREADS // 8)
    for phase in range(2):
        for i in range(thread, BLOCK_THREADS, num_threads):
            number, line = first + (i >> 3), np.int64(i & 7)
            if number >= num_blocks:
                continue
            jpeg = _last_from(jpegs, FIRST_BLOCK, np.int64(0), np.int64(1), number, num_jpegs)
            component, row, column = _place_of(jpegs, jpeg, number)
            if component < 0:
                continue
            place = np.uint64((i >> 3) * _BLOCK)
            if phase == 0:
                at = jpegs[jpeg, FACTORS + component]
                x0 = _dequantised(encoded, at, coefficients, number, line, 0)
                x1 = _dequantised(encoded, at, coefficients, number, line, 1)
                x2 = _dequantised(encoded, at, coefficients, number, line, 2)
                x3 = _dequantised(encoded, at, coefficients, number, line, 3)
                x4 = _dequantised(encoded, at, coefficients, number, line, 4)
                x5 = _dequantised(encoded, at, coefficients, number, line, 5)
                x6 = _dequantised(encoded, at, coefficients, number, line, 6)
                x7 = _dequantised(encoded, at, coefficients, number, line, 7)
                if scalar.is_too_large(x0):
                    cuda.atomic.max(statuses, jpeg, np.int32(UNSUPPORTED))
                y = scalar.transformed(x0, x1, x2, x3, x4, x5, x6, x7, scalar.COLUMN_SHIFT)
                place += _U64(line)
                between[place], between[place + _U64(_ROW)] = scalar.saturated(y[0]), scalar.saturated(y[1])
                between[place + _U64(2 * _ROW)], between[place + _U64(3 * _ROW)] = (
                    scalar.saturated(y[2]),
                    scalar.saturated(y[3]),
                )
                between[place + _U64(4 * _ROW)], between[place + _U64(5 * _ROW)] = (
                    scalar.saturated(y[4]),
                    scalar.saturated(y[5]),
                )
                between[place + _U64(6 * _ROW)], between[place + _U64(7 * _ROW)] = (
                    scalar.saturated(y[6]),
                    scalar.saturated(y[7]),
                )
            else:
                place += _U64(_ROW * line)
                y = scalar.transformed(
                    between[place], between[place + _U64(1)], between[place + _U64(2)], between[place + _U64(3)],
                    between[place + _U64(4)], between[place + _U64(5)], between[place + _U64(6)], between[place + _U64(7)],
                    scalar.ROW_SHIFT,
                )  # fmt: skip
                start, stride = _plane_of(jpegs, jpeg, component)
                to = np.uint64((start + (8 * row + line) * stride + 8 * column) >> 2)
                samples[to] = _four_levels(y[0], y[1], y[2], y[3])
                samples[to + _1] = _four_levels(y[4], y[5], y[6], y[7])
        cuda.syncthreads()


@device_function
def _plane_of(jpegs, jpeg, component):  # type: ignore[no-untyped-def]
    """(first sample, samples in a row) of a component's plane."""
    start, stride = jpegs[jpeg, FIRST_SAMPLE], 8 * jpegs[jpeg, TILE_COLUMNS] * jpegs[jpeg, INTERVAL]
    if component == 0:
        return start, stride * jpegs[jpeg, HORIZONTAL]
    num_luma = jpegs[jpeg, HORIZONTAL] * jpegs[jpeg, VERTICAL]
    return start + 8 * stride * jpegs[jpeg, TILE_ROWS] * (num_luma + component - 1), stride


@device_function
def _four_levels(a, b, c, d):  # type: ignore[no-untyped-def]
    """The levels of four results in the bytes of an int32, the first lowest."""
    low = np.uint32(np.uint32(scalar.level_of(a)) | np.uint32(np.uint32(scalar.level_of(b)) << _8))
    high = np.uint32(np.uint32(scalar.level_of(c)) | np.uint32(np.uint32(scalar.level_of(d)) << _8))
    return np.int32(np.uint32(low | np.uint32(high << _16)))


@device_function
def _chroma(samples, start, stride, rows, columns, y, x, horizontal, vertical):  # type: ignore[no-untyped-def]
    """Chroma less 128, int32, at a pixel (y, x) of `rows` rows and `columns` columns, from the plane that starts there."""
    if horizontal == 1:
        return np.int32(np.int32(samples[_U64(start + y * stride + x)]) - np.int32(128))
    row = y >> (vertical - 1)
    at = start + row * stride + (x >> 1)
    beside = max(x >> 1, np.int64(1)) - 1 if x & 1 == 0 else min((x >> 1) + 1, ((columns + 1) >> 1) - 1)
    step = beside - (x >> 1)
    near, other = np.int32(samples[_U64(at)]), np.int32(samples[_U64(at + step)])
    if vertical == 1:
        return np.int32(((3 * near + other + (2 if x & 1 else 1)) >> 2) - 128)
    far = max(row, np.int64(1)) - 1 if y & 1 == 0 else min(row + 1, ((rows + 1) >> 1) - 1)
    at += (far - row) * stride
    near = np.int32(3 * near + np.int32(samples[_U64(at)]))
    other = np.int32(3 * other + np.int32(samples[_U64(at + step)]))
    return np.int32(((3 * near + other + (7 if x & 1 else 8)) >> 4) - 128)


@device_function
def _colour_of(jpegs, jpeg, pixel, samples):  # type: ignore[no-untyped-def]
    """Red, green and blue of a JPEG's pixel, by its number row by row."""
    rows, columns = jpegs[jpeg, ROWS], jpegs[jpeg, COLUMNS]
    horizontal, vertical = jpegs[jpeg, HORIZONTAL], jpegs[jpeg, VERTICAL]
    y, x = _divided(pixel, columns)
    start, stride = _plane_of(jpegs, jpeg, 0)
    luma = np.int32(samples[_U64(start + y * stride + x)])
    if jpegs[jpeg, NUM_COMPONENTS] == 1:
        return luma, luma, luma
    start, stride = _plane_of(jpegs, jpeg, 1)
    cb = _chroma(samples, start, stride, rows, columns, y, x, horizontal, vertical)
    start, stride = _plane_of(jpegs, jpeg, 2)
    cr = _chroma(samples, start, stride, rows, columns, y, x, horizontal, vertical)
    return scalar.rgb_of(luma, cb, cr)


@kernel(threads=PIXEL_THREADS, blocks=4)
def _show(jpegs, num_jpegs, first_pixel, num_pixels, samples, pixels):  # type: ignore[no-untyped-def]
    first = np.int64(cuda.blockIdx.x) * _BLOCK_PIXELS
    jpeg = own_first = own_end = np.int64(0)  # of the JPEG that the pixel before was of; at first, of none
    for i in range(first + cuda.threadIdx.x, min(first + _BLOCK_PIXELS, num_pixels), cuda.blockDim.x):
        if i >= own_end:
            jpeg = _last_from(jpegs, FIRST_PIXEL, first_pixel, np.int64(3), np.int64(i), num_jpegs)
            own_first = (jpegs[jpeg, FIRST_PIXEL] - first_pixel) // 3
            own_end = own_first + jpegs[jpeg, ROWS] * jpegs[jpeg, COLUMNS]
        red, green, blue = _colour_of(jpegs, jpeg, np.int64(i - own_first), samples)
        to = _U64(first_pixel + 3 * i)
        pixels[to], pixels[to + _1], pixels[to + _1 + _1] = np.uint8(red), np.uint8(green), np.uint8(blue)


def decode(
    encoded: tuple[Any, Any],
    jpegs: Any,
    tiles: Any,
    counts: tuple[int, int, int, int],
    bits: Any,
    coefficients: Any,
    samples: tuple[Any, Any],
    pixels: Any,
    statuses: Any,
) -> None:
    """Queues the decoding of a batch's JPEGs: `decode_bits`, `transform`, `show`. Arrays from `cuda.array`.

    encoded: bytes (n,) uint8, and the same memory (n / 4,) int32. jpegs (N, JPEG_LENGTH) and tiles (T, TILE_LENGTH) int64.
    counts: JPEGs, blocks of coefficients, the first pixel's offset in bytes, pixels of all JPEGs. Written: bits (>=
    `device_tables.num_bit_words`,) int32, which hold nothing between calls; coefficients (>= 64 blocks,) int16, zeros before;
    samples (m,) uint8, and the same memory as int32; pixels, flat uint8; statuses (N,) int32.
    """
    decode_bits(encoded, jpegs, tiles, counts, bits, coefficients, statuses)
    transform(encoded, jpegs, counts, coefficients, samples, statuses)
    show(jpegs, counts, samples, pixels)


def decode_bits(
    encoded: tuple[Any, Any],
    jpegs: Any,
    tiles: Any,
    counts: tuple[int, int, int, int],
    bits: Any,
    coefficients: Any,
    statuses: Any,
) -> None:
    """Queues the first kernel of `decode`: bits to coefficients."""
    launch(_decode_tiles, counts[0], TILE_THREADS, *encoded, jpegs, tiles, bits, coefficients, statuses)


def transform(
    encoded: tuple[Any, Any],
    jpegs: Any,
    counts: tuple[int, int, int, int],
    coefficients: Any,
    samples: tuple[Any, Any],
    statuses: Any,
) -> None:
    """Queues the second: coefficients to samples."""
    num_jpegs, num_blocks = np.int64(counts[0]), np.int64(counts[1])
    grid = -(-counts[1] // (BLOCK_THREADS // 8))
    launch(
        _transform, grid, BLOCK_THREADS, encoded[0], jpegs, num_jpegs, num_blocks, coefficients, samples[1], statuses,
    )  # fmt: skip


def show(jpegs: Any, counts: tuple[int, int, int, int], samples: tuple[Any, Any], pixels: Any) -> None:
    """Queues the third: samples to pixels."""
    places = np.int64(counts[0]), np.int64(counts[2]), np.int64(counts[3])
    launch(_show, -(-counts[3] // _BLOCK_PIXELS), PIXEL_THREADS, jpegs, *places, samples[0], pixels)
