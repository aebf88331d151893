"""Takes the entropy-coded data of a JPEG, gives the same coefficients coded with restart markers at another interval.

Three passes: `bitstream.unstuff` takes out what byte alignment needs; `scan` walks through the codes MCU by MCU, follows the DC
predictors and skips AC coefficients, several in a step; then `splice` copies the bits, but for the first DC differences of
each interval, or `recode` writes the found tokens with other Huffman tables.
"""

from __future__ import annotations

import numpy as np

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg.bitstream import (
    DC_OUT_OF_RANGE,
    NO_CODE,
    NO_SYMBOL,
    OK,
    ONES,
    TOO_LONG,
    TOO_MANY_COEFFICIENTS,
    TOO_SHORT,
    WRONG_RESTART,
    bits_from,
    ff_bytes,
    load,
    store,
    stuff,
)
from deit_fast.kernels.jpeg.huffman import ENDS, INDEX_SHIFT, LOOKUP_BITS, MAX_DC_BITS, STEP_SHIFT, is_coefficient, symbol_of

RESTART = -1  # an event's table: a restart marker is written
JOIN = -2  # bits are left out

_U = np.uint64  # Numba makes floats of sums of signed and unsigned integers
_0, _1, _3, _7, _8, _56, _63, _64 = (np.uint64(number) for number in (0, 1, 3, 7, 8, 56, 63, 64))
_WINDOW_SHIFT = np.uint64(64 - LOOKUP_BITS)
_TOKEN_SHIFT = np.uint64(64 - 26)


@compiled()
def note(events, place, until, resume, action, difference):  # type: ignore[no-untyped-def]
    """Writes an event, see `scan`."""
    events[place, 0] = until
    events[place, 1] = resume
    events[place, 2] = action
    events[place, 3] = difference


@compiled()
def scan(bits, num_bytes, resets, blocks, num_mcus, source_interval, interval, tables, record, tokens, starts, events):  # type: ignore[no-untyped-def]
    """(status, MCU, number of events) of walking through a scan of num_mcus MCUs, which must end with its bits.

    bits, num_bytes, resets: from `bitstream.unstuff`; blocks (b, 3) int64: component, DC and AC table of an MCU's blocks;
    source_interval: MCUs between the source's restart markers, of which there are as many as resets; interval: MCUs between
    those to write; tables: single, steps, limits, offsets, symbols of a `huffman.HuffmanTables`. Written: tokens
    (65 * blocks + 1,) uint32 if record is 1, and starts, where those of each interval start, and at last their end; events
    (k, 4) int64, what to do at which bit: copy bits until, resume at, RESTART or JOIN or the DC table to code with, what.
    """
    single, steps, limits, offsets, symbols = tables
    before = np.zeros(4, np.int64)  # the last DC values, as the source takes them
    written = np.zeros(4, np.int64)  # as they are written: both start at 0 with an interval
    step_tokens = _U(record)
    num_bits = _U(num_bytes) * _8
    # word: the coming bits, of which the first `count` are sure to be there; at: the byte after these
    word, count, at, num_tokens = _0, _0, _0, _0
    num_events, num_starts, num_resets = 0, 1, 0
    starts[0] = 0
    source_left, left = source_interval, interval
    for mcu in range(num_mcus):
        if source_left == 0 or left == 0:
            end = position = np.int64(at * _8 - count)
            if source_left == 0:
                position = resets[num_resets] * 8
                if not 0 <= position - end < 8:
                    return WRONG_RESTART, mcu, num_events
                word, count, at = _0, _0, _U(resets[num_resets])
                num_resets += 1
                source_left = source_interval
                before[:] = 0
            note(events, num_events, end, position, RESTART if left == 0 else JOIN, 0)
            num_events += 1
            if left == 0:
                starts[num_starts] = num_tokens
                num_starts += 1
                left = interval
                written[:] = 0
        source_left -= 1
        left -= 1
        for block in range(blocks.shape[0]):
            component, dc, ac = blocks[block, 0], blocks[block, 1], blocks[block, 2]
            word |= load(bits, at) >> count
            at += (_63 - count) >> _3
            count |= _56
            entry = np.int64(single[dc, word >> _WINDOW_SHIFT])
            if entry == 0:
                entry = symbol_of(word, limits[dc], offsets[dc], symbols[dc])
            size = entry >> 8
            if size < 0 or size > MAX_DC_BITS:
                return NO_SYMBOL, mcu, num_events
            used = _U(entry & 255)
            rest = word << used
            extra = np.int64((rest >> _1) >> _U(63 - size))
            difference = extra - ((1 << size) - 1 if rest >> _63 == _0 else 0)
            word = rest << _U(size)
            used += _U(size)
            value = before[component] + difference
            to_write = value - written[component]
            before[component] = value
            written[component] = value
            if to_write != difference:
                size, extra = magnitude(to_write)
                if size > MAX_DC_BITS:
                    return DC_OUT_OF_RANGE, mcu, num_events
                end = np.int64(at * _8 - count)
                note(events, num_events, end, end + np.int64(used), dc, to_write)
                num_events += 1
            count -= used
            tokens[num_tokens] = ((4 + dc) << 26) | (size << 22) | extra
            num_tokens += step_tokens

            k = np.int64(1)  # the coefficient that is next
            kind = _U(ac - 4) << _U(26)
            while k < 64:
                word |= load(bits, at) >> count
                at += (_63 - count) >> _3
                count |= _56
                step = _U(steps[ac, word >> _WINDOW_SHIFT])
                advance = np.int64(step >> _U(STEP_SHIFT))
                tokens[num_tokens] = kind | (word >> _TOKEN_SHIFT)
                k += advance
                if k <= 64 or ENDS <= k < ENDS + 64:
                    word <<= step & _63
                    count -= step & _63
                    num_tokens += step_tokens
                    continue
                # the step is unknown, or goes beyond the block: one symbol
                entry = symbol_of(word, limits[ac], offsets[ac], symbols[ac])
                symbol = entry >> 8
                if entry < 0 or not is_coefficient(symbol):
                    return NO_SYMBOL, mcu, num_events
                size = symbol & 15
                rest = word << _U(entry & 255)
                tokens[num_tokens] = ((4 + ac) << 26) | (symbol << 18) | np.int64((rest >> _1) >> _U(63 - size))
                num_tokens += step_tokens
                word = rest << _U(size)
                count -= _U((entry & 255) + size)
                k = k - advance + (symbol >> 4) + 1 if symbol > 0 else ENDS
                if 64 < k < ENDS:
                    return TOO_MANY_COEFFICIENTS, mcu, num_events
            if at * _8 > num_bits + count:
                return TOO_SHORT, mcu, num_events
    end = np.int64(at * _8 - count)
    if num_bytes * 8 - end >= 8:
        return TOO_LONG, num_mcus - 1, num_events
    note(events, num_events, end, end, RESTART, 0)
    starts[num_starts] = num_tokens
    return OK, num_mcus, num_events + 1


@compiled()
def magnitude(value):  # type: ignore[no-untyped-def]
    """Number of bits and bits by which a coefficient is coded."""
    size = 0
    while abs(value) >> size:
        size += 1
    return size, value if value >= 0 else value + (1 << size) - 1


@compiled()
def splice(bits, events, num_events, lengths, codes, out, start, tiles):  # type: ignore[no-untyped-def]
    """(status, where the end marker ends) of writing bits with restart markers from out[start] on.

    bits, events: from `scan`; lengths, codes (8, 256): of the Huffman tables; out (n,) uint8, n at least start + 2 * bytes of
    bits + 16 for each event + 16; tiles (number of intervals,) uint32: bytes of each with the marker after it.
    """
    at = _U(start)
    tile_start = at
    tile = 0
    cursor = _0
    word = _0  # bits not yet written, fewer than eight
    fill = _0
    for event in range(num_events):
        total = fill + _U(events[event, 0]) - cursor
        word |= bits_from(bits, cursor) >> fill
        cursor += _64 - fill
        while total >= _64:
            # not in a function: each call would count references to the array, which took four times as long as the rest
            if ff_bytes(word) == _0:
                store(out, at, word)
                at += _8
            else:
                at = stuff(out, at, word, _8)
            word = bits_from(bits, cursor)
            cursor += _64
            total -= _64
        word &= ~(ONES >> total)
        at = stuff(out, at, word, total >> _3)
        word <<= total & _56
        fill = total & _7
        table = events[event, 2]
        if table >= 0:
            size, extra = magnitude(events[event, 3])
            length = np.int64(lengths[table, size])
            if length == 0:
                return NO_CODE, np.int64(at)
            word |= ((_U(codes[table, size]) << _U(size)) | _U(extra)) << _U(64 - np.int64(fill) - length - size)
            total = fill + _U(length + size)
            at = stuff(out, at, word, total >> _3)
            word <<= total & _56
            fill = total & _7
        elif table == RESTART:
            if fill > _0:
                at = stuff(out, at, word | (ONES >> fill), _1)
            out[at] = 0xFF
            out[at + _1] = (0xD0 + (tile & 7)) if event + 1 < num_events else 0xD9
            at += _U(2)
            tiles[tile] = at - tile_start
            tile_start = at
            tile += 1
            word, fill = _0, _0
        cursor = _U(events[event, 1])
    return OK, np.int64(at)


@compiled()
def recode(tokens, starts, recodings, bits, events):  # type: ignore[no-untyped-def]
    """Writes tokens with other codes into bits (>= their bytes + one for each interval + PADDING,) uint8, and where to restart.

    tokens, starts: from `scan`; recodings: from `huffman.find_recodings`; events (number of intervals, 4) int64 for `splice`.
    """
    at = _0
    for interval in range(starts.size - 1):
        word = _0
        fill = _0
        for place in range(_U(starts[interval]), _U(starts[interval + 1])):
            token = _U(tokens[place])
            index = token >> _U(INDEX_SHIFT)
            how = recodings[index, 1]
            length = how & _U(255)
            extra = (token >> (how >> _U(16))) & ((_1 << ((how >> _8) & _U(255))) - _1)
            word |= (recodings[index, 0] | extra) << (_64 - fill - length)
            fill += length
            store(bits, at, word)
            at += fill >> _3
            word <<= fill & _56
            fill &= _7
        end = np.int64(at * _8 + fill)
        bits[at] = word >> _56
        at += (fill + _7) >> _3
        note(events, interval, end, np.int64(at * _8), RESTART, 0)
