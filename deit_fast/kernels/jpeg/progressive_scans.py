"""The four kinds of scans of a progressive JPEG: first and refining ones, of the first (DC) or of the other coefficients (AC).

Each decodes the blocks of one restart interval, or of a scan without restart markers. Arguments: source: bits (n + PADDING,)
uint8, the first byte of the interval, and where it ends; order (blocks,) int32: places of its blocks among all; low: the lowest
bit that is sent; tables: (8, WINDOWS) uint32 of `entry_of`, 0 for longer codes, then limits, offsets, symbols ... as those of
`huffman.HuffmanTables`. Each says whether the interval is sound: it has codes for all blocks and no more, and nothing on which
libjpeg would remark.
"""

from __future__ import annotations

import numpy as np
from numba.extending import register_jitable

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg.bit_counts import set_bits, trailing_zeros
from deit_fast.kernels.jpeg.bitstream import load
from deit_fast.kernels.jpeg.huffman import LOOKUP_BITS, MAX_AC_BITS, MAX_DC_BITS, symbol_of

ZIGZAG = np.array(
    sorted(range(64), key=lambda i: (i // 8 + i % 8, i // 8 if (i // 8 + i % 8) % 2 else i % 8)), np.uint8
)  # the place in a block, row by row, of each coefficient

_U = np.uint64  # Numba makes floats of sums of signed and unsigned integers
_0, _1, _3, _8, _56, _63, _64 = (np.uint64(number) for number in (0, 1, 3, 8, 56, 63, 64))
_WINDOW_SHIFT = np.uint64(64 - LOOKUP_BITS)
_LARGEST_DC = 1 << 14


@register_jitable(inline="always")
def entry_of(found):  # type: ignore[no-untyped-def]
    """Bits of a code and of what follows it | bits of the code << 8 | symbol << 16, from symbol << 8 | bits of the code."""
    size, run = (found >> 8) & 15, found >> 12
    extra = size if size > 0 else (run if run < 15 else 0)
    return (found << 8 & 0xFF0000) | (found & 255) << 8 | (found & 255) + extra


@compiled()
def _long_entry(word, limits, offsets, symbols):  # type: ignore[no-untyped-def]
    """The entry of a code that is not looked up; one that no scan has, of 15 bits of value, if there is none."""
    found = symbol_of(word, limits, offsets, symbols)
    return np.int64(0xFFFF << 16) if found < 0 else entry_of(found)


@register_jitable(inline="always")
def _refilled(bits, word, count, at):  # type: ignore[no-untyped-def]
    """(word, count, at) with at least 56 bits. word: the coming bits, of which the first `count` are sure to be there; at: the
    byte after these."""
    return word | load(bits, at) >> count, count | _56, at + ((_63 - count) >> _3)


@register_jitable(inline="always")
def _overruns(at, count, end):  # type: ignore[no-untyped-def]
    """Whether bits beyond the end were taken."""
    return at * _8 > _U(end) * _8 + count


@register_jitable(inline="always")
def _ends(at, count, end):  # type: ignore[no-untyped-def]
    """Whether these bits are the last, up to seven."""
    return 0 <= end * 8 - np.int64(at * _8 - count) < 8


@compiled()
def dc_first(source, order, plan, low, tables, coefficients):  # type: ignore[no-untyped-def]
    """Differences of DC coefficients. plan (blocks of an MCU, 2) int64: the component and the table of each."""
    bits, begin, end = source
    entries, limits, offsets, symbols, _, _ = tables
    before = np.zeros(4, np.int64)
    word, count, at = _0, _0, _U(begin)
    block = np.int64(0)
    for place in range(order.size):
        word, count, at = _refilled(bits, word, count, at)
        component, table = plan[block, 0], plan[block, 1]
        entry = np.int64(entries[table, word >> _WINDOW_SHIFT])
        if entry == 0:
            entry = _long_entry(word, limits[table], offsets[table], symbols[table])
        size = entry >> 16
        if size > MAX_DC_BITS:
            return False
        rest = word << _U(entry >> 8 & 255)
        # without a branch: the sign cannot be foretold
        difference = np.int64((rest >> _1) >> _U(63 - size)) - (((1 << size) - 1) & (np.int64(rest >> _63) - 1))
        word <<= _U(entry & 63)
        count -= _U(entry & 63)
        value = before[component] + difference
        before[component] = value
        if abs(value << low) > _LARGEST_DC or _overruns(at, count, end):
            return False
        coefficients[order[place], 0] = value << low
        block += 1
        if block == plan.shape[0]:
            block = np.int64(0)
    return _ends(at, count, end)


@compiled()
def dc_refined(source, order, low, coefficients):  # type: ignore[no-untyped-def]
    """One more bit of each DC coefficient."""
    bits, begin, end = source
    if not 0 <= 8 * (end - begin) - order.size < 8:
        return False
    for place in range(order.size):
        coefficients[order[place], 0] |= ((bits[begin + (place >> 3)] >> (7 - (place & 7))) & 1) << low
    return True


@compiled()
def ac_first(source, order, first, last, low, tables, table, coefficients, masks):  # type: ignore[no-untyped-def]
    """The upper bits of a band of coefficients of one component."""
    bits, begin, end = source
    entries, limits, offsets, symbols = tables[0][table], tables[1][table], tables[2][table], tables[3][table]
    word, count, at = _0, _0, _U(begin)
    skipped = np.int64(0)
    for place in range(order.size):
        if skipped > 0:
            skipped -= 1
            continue
        target = _U(order[place])
        mask = masks[target]
        k = np.int64(first)
        while k <= last:
            word, count, at = _refilled(bits, word, count, at)
            entry = np.int64(entries[word >> _WINDOW_SHIFT])
            if entry == 0:
                entry = _long_entry(word, limits, offsets, symbols)
            size, run = entry >> 16 & 15, entry >> 20
            rest = word << _U(entry >> 8 & 255)
            word <<= _U(entry & 63)
            count -= _U(entry & 63)
            if size > 0:
                k += run
                if k > last or size + low > MAX_AC_BITS:
                    return False
                # without a branch: the sign cannot be foretold
                value = np.int64(rest >> _U(64 - size)) - (((1 << size) - 1) & (np.int64(rest >> _63) - 1))
                coefficients[target, ZIGZAG[_U(k)]] = value << low
                mask |= _1 << _U(k)
                k += 1
            elif run == 15:
                k += 16
            else:
                # these blocks have no more: this one, and so many after it
                skipped = (1 << run) - 1 + np.int64((rest >> _1) >> _U(63 - run))
                break
        masks[target] = mask
        if _overruns(at, count, end):
            return False
    return _ends(at, count, end)


@compiled(inlined=True)
def _without_first(zeros, run):  # type: ignore[no-untyped-def]
    """A mask without its first `run` bits. The first four go without a branch, since the run cannot be foretold."""
    for passed in range(4):
        zeros = zeros & (zeros - _1) if run > passed else zeros
    for _ in range(4, run):
        zeros &= zeros - _1
    return zeros


@compiled(inlined=True)
def _refine(known, sent, unit, coefficients, block):  # type: ignore[no-untyped-def]
    """Adds the bits that were sent, the first the highest, to those coefficients of a block that were known not to be 0."""
    while known != _0:
        place = ZIGZAG[trailing_zeros(known)]
        known &= known - _1
        # without branches: neither the bit nor the sign can be foretold
        level = np.int64(coefficients[block, place])
        sign = level >> 63
        coefficients[block, place] = level + (((unit ^ sign) - sign) & -np.int64(sent >> _63))
        sent <<= _1


@compiled()
def ac_refined(source, order, first, last, low, tables, table, coefficients, masks):  # type: ignore[no-untyped-def]
    """One more bit of a band of coefficients of one component: of those that are not 0, and those that this bit makes so."""
    bits, begin, end = source
    entries, limits, offsets, symbols = tables[0][table], tables[1][table], tables[2][table], tables[3][table]
    unit = np.int64(1) << low
    band = (~_0 >> _U(63 - last)) & ~((_1 << _U(first)) - _1)
    word, count, at = _0, _0, _U(begin)
    skipped = np.int64(0)
    for place in range(order.size):
        target = _U(order[place])
        mask = masks[target]
        known = mask & band
        if skipped > 0 and known == _0:
            skipped -= 1
            continue
        sent = _0  # the bits of those that are known, taken up for all of them: their number cannot be foretold
        remaining = band  # the coefficients that are next
        while remaining != _0:
            value, found = np.int64(0), _0
            covered = remaining  # those up to the coefficient that the symbol makes other than 0, or passes
            if skipped == 0:
                word, count, at = _refilled(bits, word, count, at)
                entry = np.int64(entries[word >> _WINDOW_SHIFT])
                if entry == 0:
                    entry = _long_entry(word, limits, offsets, symbols)
                size, run = entry >> 16 & 15, entry >> 20
                if size > 1:
                    return False
                rest = word << _U(entry >> 8 & 255)
                word <<= _U(entry & 63)
                count -= _U(entry & 63)
                if size == 0 and run < 15:
                    skipped = (1 << run) + np.int64((rest >> _1) >> _U(63 - run))
                else:
                    value = (np.int64(rest >> _63) * 2 - 1) * unit * size
                    zeros = _without_first(remaining & ~mask, run)
                    found = zeros & (_0 - zeros)
                    if found == _0 and size == 1:
                        return False
                    covered = remaining & ((found << _1) - _1)  # all if none was found
            word, count, at = _refilled(bits, word, count, at)
            number = set_bits(covered & known)
            if number > _56:
                sent = sent << _8 | word >> _56
                word, count, at = _refilled(bits, word << _8, count - _8, at)
                number -= _8
            sent = sent << number | (word >> _1) >> (_63 - number)
            word <<= number
            count -= number
            remaining &= ~covered
            if value != 0:
                coefficients[target, ZIGZAG[trailing_zeros(found)]] = value
                mask |= found
            if skipped > 0:
                skipped -= 1
                break
        if known != _0:
            _refine(known, sent << (_64 - set_bits(known)), unit, coefficients, target)
        masks[target] = mask
        if _overruns(at, count, end):
            return False
    return _ends(at, count, end)
