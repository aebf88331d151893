"""Takes the bytes of a JPEG, gives what decoding its scan needs of the header: a few numbers, and lookups of its Huffman codes.

Only what is common is taken: 8-bit baseline Huffman of one component, or three in YCbCr by libjpeg's rules, and nothing on
which libjpeg would remark. The rest is for libjpeg. A lookup is made in about a microsecond, so none is kept between images.
"""

from __future__ import annotations

import numpy as np
from numba import carray

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg.huffman import MAX_AC_BITS, MAX_DC_BITS
from deit_fast.kernels.jpeg.segments import START_OF_SCAN, next_segment
from deit_fast.kernels.transpose import void_pointer

LOOKUP_BITS = 11  # of the longest codes, with the sign of their values, that the first look finds: 99.5 % of a photograph's
WINDOWS = 1 << LOOKUP_BITS
TABLE_BYTES = 4 * WINDOWS + 512  # of a lookup, and behind it what finds longer codes

# Places in the facts, int64, of a header
WIDTH, HEIGHT, NUM_COMPONENTS, INTERVAL, HORIZONTAL, VERTICAL = range(6)  # factors: of luma, those of chroma are 1
COMPONENTS = 6  # three numbers of each: quantisation, DC and AC table
DEFINITIONS = 16  # where each Huffman table is defined, AC tables from the fifth on
QUANTIZATIONS = 24  # where each quantisation table is defined
NUM_FACTS = 28

# What a lookup says, a uint32: bits of code and value | coefficients advanced << 8 | what to add to these bits << 16: the value
# is that sum's lower 16 bits
ENDS = 128  # the advance at the end of a block
UNKNOWN = 255  # the advance where a code is longer, or means nothing
NOTHING = np.uint32(UNKNOWN << 8)


@compiled()
def entry_of(symbol, code, length, is_positive, is_dc):  # type: ignore[no-untyped-def]
    """What a lookup says of a symbol with a code of `length` bits and a value of that sign; NOTHING if not baseline's."""
    size = symbol & 15
    advance = (symbol >> 4) + 1
    if is_dc:
        is_known = symbol <= MAX_DC_BITS
    else:
        is_known = size <= MAX_AC_BITS and (size > 0 or symbol == 0 or symbol == 0xF0)
        if symbol == 0:
            advance = ENDS
    if not is_known:
        return NOTHING
    least = 0 if is_positive else (1 << size) - 1  # a value that begins with 0 is negative: it is less by this
    return np.uint32(length + size | advance << 8 | ((-(code << size) - least) & 0xFFFF) << 16)


@compiled()
def long_codes(address):  # type: ignore[no-untyped-def]
    """limits and offsets (17,) int32, symbols (256,) uint8 for `huffman.symbol_of`, which lie behind a lookup."""
    limits = carray(void_pointer(address + 4 * WINDOWS), (17,), np.int32)
    offsets = carray(void_pointer(address + 4 * WINDOWS + 128), (17,), np.int32)
    return limits, offsets, carray(void_pointer(address + 4 * WINDOWS + 256), (256,), np.uint8)


@compiled()
def is_sound_table(encoded, place, is_dc):  # type: ignore[no-untyped-def]
    """Whether the Huffman table defined at a place of the JPEG has a code for each symbol, and baseline's DC symbols."""
    code, number = np.int64(0), np.int64(0)
    for length in range(1, 17):
        count = np.int64(encoded[place + length - 1])
        if (count > 0 and code + count >= 1 << length) or number + count > 256:  # the code of ones alone is not allowed
            return False
        code = (code + count) << 1
        number += count
    is_baseline = True
    for i in range(number if is_dc else 0):
        is_baseline &= encoded[place + 16 + i] <= 15
    return is_baseline


@compiled()
def make_lookup(encoded, place, is_dc, address):  # type: ignore[no-untyped-def]
    """Writes the lookup, TABLE_BYTES from an address on, of a sound Huffman table defined at a place of the JPEG."""
    lookup = carray(void_pointer(address), (WINDOWS,), np.uint32)
    limits, offsets, symbols = long_codes(address)
    lookup[:] = NOTHING
    limits[:] = 0
    code = np.int64(0)
    number = np.int64(0)
    for length in range(1, 17):
        count = np.int64(encoded[place + length - 1])
        offsets[length] = number - code
        for _ in range(count):
            symbol = np.int64(encoded[place + 16 + number])
            symbols[number] = symbol
            if length < LOOKUP_BITS:
                half = np.uint64(1 << (LOOKUP_BITS - length - 1))
                window = np.uint64(code << (LOOKUP_BITS - length))
                negative = entry_of(symbol, code, length, symbol & 15 == 0, is_dc)
                positive = entry_of(symbol, code, length, True, is_dc)
                for i in range(half):
                    lookup[window + i] = negative
                for i in range(half):
                    lookup[window + half + i] = positive
            code += 1
            number += 1
        if count > 0:
            limits[length] = code << (16 - length)
        code <<= 1


@compiled()
def make_quantization(encoded, place, order, factors):  # type: ignore[no-untyped-def]
    """Writes the quantisation table defined at a place as (8, 16) int16, each row twice; order: offsets of zigzag in bytes."""
    for k in range(64):
        if encoded[place] >> 4 > 0:
            value = np.int64(encoded[place + 1 + 2 * k]) << 8 | np.int64(encoded[place + 2 + 2 * k])
        else:
            value = np.int64(encoded[place + 1 + k])
        row, column = order[k] >> 4, (order[k] >> 1) & 7
        factors[row, column] = factors[row, column + 8] = value


@compiled()
def _begins(encoded, at, end, name):  # type: ignore[no-untyped-def]
    is_equal = at + len(name) <= end
    if is_equal:
        for i in range(len(name)):
            is_equal &= encoded[at + i] == name[i]
    return is_equal


@compiled()
def read_facts(encoded, header_bytes, facts):  # type: ignore[no-untyped-def]
    """Whether a JPEG (n,) uint8, with header_bytes before the data of its only scan, is of the common kind; fills facts."""
    facts[:] = 0
    facts[DEFINITIONS:] = -1
    is_jfif = False
    adobe = np.int64(-1)
    if header_bytes > encoded.size or header_bytes < 4 or encoded[0] != 0xFF or encoded[1] != 0xD8:
        return False
    frame = np.int64(0)
    marker, at, end = next_segment(encoded, np.int64(2), header_bytes)
    while marker >= 0:
        is_sound = True
        if marker == START_OF_SCAN:
            return end == header_bytes and frame > 0 and _read_scan(encoded, at, end, frame, is_jfif, adobe, facts)
        if marker == 0xDB:
            is_sound = _find_quantizations(encoded, at, end, facts)
        elif marker == 0xC4:
            is_sound = _find_definitions(encoded, at, end, facts)
        elif marker == 0xC0 or marker == 0xC1:
            is_sound = frame == 0 and _read_frame(encoded, at, end, facts)
            frame = at
        elif marker == 0xDD:
            is_sound = end == at + 2
            if is_sound:
                facts[INTERVAL] = np.int64(encoded[at]) << 8 | np.int64(encoded[at + 1])
        elif marker == 0xE0 and end >= at + 14 and _begins(encoded, at, end, (74, 70, 73, 70, 0)):
            is_jfif = True
            is_sound = encoded[at + 5] == 1
        elif marker == 0xEE and end >= at + 12 and _begins(encoded, at, end, (65, 100, 111, 98, 101)):
            adobe = np.int64(encoded[at + 11])
        elif not (0xE0 <= marker <= 0xEF or marker == 0xFE):
            is_sound = False
        if not is_sound:
            return False
        marker, at, end = next_segment(encoded, end, header_bytes)
    return False


@compiled()
def _find_quantizations(encoded, at, end, facts):  # type: ignore[no-untyped-def]
    while at < end:
        size = 129 if encoded[at] >> 4 > 0 else 65
        if encoded[at] & 0xEC != 0 or at + size > end:
            return False
        facts[QUANTIZATIONS + (encoded[at] & 3)] = at
        at += size
    return True


@compiled()
def _find_definitions(encoded, at, end, facts):  # type: ignore[no-untyped-def]
    while at < end:
        if encoded[at] & 0xEC != 0 or at + 17 > end:
            return False
        size = np.int64(17)
        for i in range(1, 17):
            size += encoded[at + i]
        if size > 17 + 256 or at + size > end:
            return False
        facts[DEFINITIONS + (encoded[at] >> 2) + (encoded[at] & 3)] = at + 1
        at += size
    return True


@compiled()
def _read_frame(encoded, at, end, facts):  # type: ignore[no-untyped-def]
    if end - at < 6 or encoded[at] != 8:
        return False
    count = np.int64(encoded[at + 5])
    if end - at != 6 + 3 * count or (count != 1 and count != 3):
        return False
    facts[HEIGHT] = np.int64(encoded[at + 1]) << 8 | np.int64(encoded[at + 2])
    facts[WIDTH] = np.int64(encoded[at + 3]) << 8 | np.int64(encoded[at + 4])
    facts[NUM_COMPONENTS] = count
    for number in range(count):
        factors, table = np.int64(encoded[at + 7 + 3 * number]), np.int64(encoded[at + 8 + 3 * number])
        if table > 3 or (number > 0 and factors != 0x11):
            return False
        facts[COMPONENTS + 3 * number] = table
    factors = np.int64(encoded[at + 7])
    facts[HORIZONTAL], facts[VERTICAL] = factors >> 4, factors & 15
    if count == 1:
        # the blocks of a single component are not grouped, whatever its factors are
        facts[HORIZONTAL], facts[VERTICAL] = 1, 1
        return 1 <= factors >> 4 <= 4 and 1 <= factors & 15 <= 4
    return factors == 0x11 or factors == 0x21 or factors == 0x22


@compiled()
def _read_scan(encoded, at, end, frame, is_jfif, adobe, facts):  # type: ignore[no-untyped-def]
    count = facts[NUM_COMPONENTS]
    if end - at != 4 + 2 * count or encoded[at] != count:
        return False
    if encoded[end - 3] != 0 or encoded[end - 2] != 63 or encoded[end - 1] != 0:
        return False
    for number in range(count):
        name, tables = encoded[at + 1 + 2 * number], np.int64(encoded[at + 2 + 2 * number])
        if name != encoded[frame + 6 + 3 * number] or tables & 0xCC != 0:
            return False
        for other in range(number):
            if name == encoded[at + 1 + 2 * other]:
                return False
        facts[COMPONENTS + 3 * number + 1], facts[COMPONENTS + 3 * number + 2] = tables >> 4, 4 + (tables & 15)
        if facts[DEFINITIONS + (tables >> 4)] < 0 or facts[DEFINITIONS + 4 + (tables & 15)] < 0:
            return False
        if facts[QUANTIZATIONS + facts[COMPONENTS + 3 * number]] < 0:
            return False
    if count == 1 or is_jfif:
        return True
    if adobe >= 0:
        return adobe == 1
    return not (encoded[at + 1] == 82 and encoded[at + 3] == 71 and encoded[at + 5] == 66)  # components named RGB
