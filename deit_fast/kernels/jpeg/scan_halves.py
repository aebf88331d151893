"""Walks through a scan from its start and from its middle at once, which takes less time: each step waits for the one before.

The second walk begins at some bit as if an MCU began there. Huffman codes fall into step: sooner or later it comes upon the
start of an MCU, and is right from there on, but for the DC values and the number of MCUs before. The first walk goes on until
it comes upon an MCU that began for both. Where anything is odd, `entropy.scan` must tell.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import carray
from numba.extending import register_jitable
from numpy.typing import NDArray

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg.bitstream import load_at
from deit_fast.kernels.jpeg.entropy import RESTART, magnitude, note
from deit_fast.kernels.jpeg.huffman import (
    ENDS,
    LOOKUP_BITS,
    MAX_DC_BITS,
    STEP_SHIFT,
    WINDOWS,
    is_coefficient,
    symbol_of,
)
from deit_fast.kernels.transpose import void_pointer
from deit_fast.kernels.vectors import copy_bytes, load_word, store_word

# Of an MCU: its first bit; of each component's first DC value: where it is coded << 6 | by how many bits, it, that before it
MARKS = 10
# Of a block of an MCU: addresses of its DC and AC lookups, their numbers, offsets in bytes of its component's value, and of its
# marks, 0 but for a component's first
_DC, _AC, _DC_NUMBER, _AC_NUMBER, _COMPONENT, _MARK = (np.int64(8 * word) for word in range(6))
_PLAN_BYTES = 64

_U = np.uint64  # Numba makes floats of sums of signed and unsigned integers
_0, _1, _3, _6, _7, _8, _56, _63, _64 = (np.uint64(number) for number in (0, 1, 3, 6, 7, 8, 56, 63, 64))
_WINDOW_SHIFT = np.uint64(64 - LOOKUP_BITS)
_LOW_HALFWORD = np.uint64(0xFFFF)


@register_jitable(forceinline=True)
def _word_at(address):  # type: ignore[no-untyped-def]
    return np.int64(load_word(np.int64(address)))


@register_jitable(forceinline=True)
def _looked_up(table, word):  # type: ignore[no-untyped-def]
    """The 16 bits that a table has for coming bits."""
    return load_word(table + np.int64(word >> _WINDOW_SHIFT << _1)) & _LOW_HALFWORD


@register_jitable(forceinline=True)
def _refilled(word, count, at):  # type: ignore[no-untyped-def]
    """(word, count, at) with at least 56 bits; see `entropy.scan`. at: an address."""
    word |= load_at(at) >> count
    at += (_63 - count) >> _3
    return word, count | _56, at


@register_jitable(forceinline=True)
def _placed(position):  # type: ignore[no-untyped-def]
    """(word, count, at) from a bit on; position: of it from address 0 on."""
    at = position >> _3
    return load_at(at) << (position & _7), _56 - (position & _7), at + _7


@compiled()
def _long_symbol(word, number, tables_at):  # type: ignore[no-untyped-def]
    """`huffman.symbol_of` in one of the eight tables, whose limits, offsets and symbols lie at three addresses."""
    limits = carray(void_pointer(_word_at(tables_at)), (8, 17), np.int32)
    offsets = carray(void_pointer(_word_at(tables_at + 8)), (8, 17), np.int32)
    symbols = carray(void_pointer(_word_at(tables_at + 16)), (8, 256), np.uint8)
    return symbol_of(word, limits[number], offsets[number], symbols[number])


@compiled()
def _one_symbol(word, count, at, k, step, plan, tables_at):  # type: ignore[no-untyped-def]
    """(word, count, at, k) after one symbol in place of a step that was unknown or went beyond the block; k < 0: unsound."""
    word, count, at = _placed(at * _8 - count - (step & _63))
    k -= np.int64(step >> _U(STEP_SHIFT))
    entry = _long_symbol(word, _word_at(plan + _AC_NUMBER), tables_at)
    symbol = entry >> 8
    if entry < 0 or not is_coefficient(symbol):
        return word, count, at, np.int64(-1)
    k = k + (symbol >> 4) + 1 if symbol > 0 else np.int64(ENDS)
    if 64 < k < ENDS:
        return word, count, at, np.int64(-1)
    used = _U((entry & 255) + (symbol & 15))
    return word << used, count - used, at, k


@register_jitable(forceinline=True)
def _begun(word, count, at, plan, mark, before, tables_at):  # type: ignore[no-untyped-def]
    """(word, count, at, k) after the DC symbol of a block; k < 0: unsound. mark: address of its MCU's marks."""
    word, count, at = _refilled(word, count, at)
    position = at * _8 - count
    entry = np.int64(_looked_up(_word_at(plan + _DC), word))
    if entry == 0:
        entry = _long_symbol(word, _word_at(plan + _DC_NUMBER), tables_at)
    size = entry >> 8
    if size < 0 or size > MAX_DC_BITS:
        return word, count, at, np.int64(-1)
    used = _U((entry & 255) + size)
    rest = word << _U(entry & 255)
    place = before + _word_at(plan + _COMPONENT)
    value = _word_at(place)
    offset = _word_at(plan + _MARK)
    if offset > 0:
        store_word(mark + offset, position << _6 | used)
        store_word(mark + offset + 16, _U(value))
    value += np.int64((rest >> _1) >> _U(63 - size)) - (((1 << size) - 1) & (np.int64(rest >> _63) - 1))
    if offset > 0:
        store_word(mark + offset + 8, _U(value))
    store_word(place, _U(value))
    return rest << _U(size), count - used, at, np.int64(1)


@register_jitable(forceinline=True)
def _is_whole(k):  # type: ignore[no-untyped-def]
    """Whether a block without coefficients left is complete: there was no step beyond it, and none that is unknown."""
    return k == 64 or ENDS <= k < ENDS + 64


class Room(NamedTuple):
    """Scratch for `scan_halves`: arrays, since compiled code lets go of its own while their addresses are still in use."""

    addresses: NDArray[np.int64]  # of limits, offsets and symbols of the tables
    lookups: NDArray[np.uint16]  # the DC tables, the steps of the AC tables, and steps that lead nowhere, for an ended walk
    plans: NDArray[np.int64]  # a row for each block of an MCU
    before: NDArray[np.int64]  # the last DC values of each walk


def make_room() -> Room:
    """Room for any JPEG."""
    lookups = np.zeros(9 * WINDOWS + 4, np.uint16)
    return Room(np.zeros(3, np.int64), lookups, np.zeros((10, 8), np.int64), np.zeros((2, 4), np.int64))


@compiled()
def scan_halves(bits, num_bytes, blocks, num_mcus, interval, tables, room, marks, events):  # type: ignore[no-untyped-def]
    """Number of events, those of `entropy.scan` for a source without restart markers; -1 if that must tell.

    Arguments as there; room: of `make_room`; marks (2 * (num_mcus + 1), MARKS) int64: scratch.
    """
    single, steps, limits, offsets, symbols = tables
    room.addresses[0], room.addresses[1], room.addresses[2] = limits.ctypes.data, offsets.ctypes.data, symbols.ctypes.data
    copy_bytes(single[:4], room.lookups)
    copy_bytes(steps, room.lookups[4 * WINDOWS :])
    lookups_at, bits_at = np.int64(room.lookups.ctypes.data), np.int64(bits.ctypes.data)
    for block in range(blocks.shape[0]):
        component, dc, ac = blocks[block, 0], blocks[block, 1], blocks[block, 2]
        is_first = block == 0 or component != blocks[block - 1, 0]
        plan = room.plans[block]
        plan[0], plan[1] = lookups_at + 2 * WINDOWS * dc, lookups_at + 2 * WINDOWS * ac
        plan[2], plan[3], plan[4] = dc, ac, 8 * component
        plan[5] = 8 + 24 * component if is_first else 0
    room.before[:] = 0
    mcu1, mcu2, common, sound = _walk(
        _U(bits_at), num_bytes, num_mcus, np.int64(room.plans.ctypes.data), blocks.shape[0],
        np.int64(marks.ctypes.data), np.int64(marks.ctypes.data) + 8 * MARKS * (num_mcus + 1),
        np.int64(room.before.ctypes.data), np.int64(room.before.ctypes.data) + 32,
        np.int64(room.addresses.ctypes.data), lookups_at + 16 * WINDOWS,
    )  # fmt: skip
    end = marks[num_mcus if mcu1 == num_mcus else num_mcus + 1 + mcu2, 0] - 8 * bits_at
    is_sound = mcu1 == num_mcus or (mcu1 > 0 and common >= sound and num_mcus - mcu1 == mcu2 - common)
    if not is_sound or not 0 <= 8 * num_bytes - end < 8:
        return np.int64(-1)
    return _note_events(blocks, num_mcus, interval, mcu1, common, room.before[0], marks, 8 * bits_at, end, events)


@compiled()
def _walk(start, num_bytes, num_mcus, plans, num_blocks, marks1, marks2, before1, before2, tables_at, nowhere):  # type: ignore[no-untyped-def]
    """(MCUs that the first walk passed, 0 if it is unsound; those of the second; the second's that began where the first ended;
    the first since the second was unsound). All by addresses; nowhere: a table of steps that lead nowhere."""
    end_plan, end_bits, stride = plans + _PLAN_BYTES * num_blocks, (start + _U(num_bytes)) * _8, 8 * MARKS
    plan1 = plan2 = plans
    mcu1, mcu2, common, sound = np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    word1, count1, at1 = _placed(start * _8)
    word2, count2, at2 = _placed((start + _U(num_bytes // 2)) * _8)
    store_word(marks1, start * _8)
    store_word(marks2, at2 * _8 - count2)
    word1, count1, at1, k1 = _begun(word1, count1, at1, plan1, marks1, before1, tables_at)
    word2, count2, at2, k2 = _begun(word2, count2, at2, plan2, marks2, before2, tables_at)
    table1, table2 = _word_at(plan1 + _AC), _word_at(plan2 + _AC)
    step1, step2 = _0, _0
    goes1, goes2 = True, True
    while goes1 or goes2:
        while _U(k1 | k2) < _64:
            word1, count1, at1 = _refilled(word1, count1, at1)
            word2, count2, at2 = _refilled(word2, count2, at2)
            step1, step2 = _looked_up(table1, word1), _looked_up(table2, word2)
            k1 += np.int64(step1 >> _U(STEP_SHIFT))
            k2 += np.int64(step2 >> _U(STEP_SHIFT))
            word1, word2 = word1 << (step1 & _63), word2 << (step2 & _63)
            count1, count2 = count1 - (step1 & _63), count2 - (step2 & _63)
        if k1 >= 64 and not _is_whole(k1):
            word1, count1, at1, k1 = _one_symbol(word1, count1, at1, k1, step1, plan1, tables_at)
        if k1 >= 64:
            plan1 += _PLAN_BYTES
            if plan1 == end_plan:
                plan1 = plans
                mcu1 += 1
                position = np.int64(at1 * _8 - count1)
                store_word(marks1 + mcu1 * stride, _U(position))
                while common < mcu2 and _word_at(marks2 + common * stride) < position:
                    common += 1
                goes1 = mcu1 < num_mcus and (_word_at(marks2 + common * stride) != position or common < sound)
            k1, table1 = np.int64(0), nowhere
            if goes1:
                mark = marks1 + mcu1 * stride
                word1, count1, at1, k1 = _begun(word1, count1, at1, plan1, mark, before1, tables_at)
                table1 = _word_at(plan1 + _AC)
        if k1 < 0 or at1 * _8 > end_bits + count1:
            return np.int64(0), mcu2, common, sound
        if k2 >= 64 and not _is_whole(k2):
            word2, count2, at2, k2 = _one_symbol(word2, count2, at2, k2, step2, plan2, tables_at)
        if k2 >= 64 or k2 < 0:
            plan2 += _PLAN_BYTES
            if plan2 == end_plan or k2 < 0:
                plan2 = plans
                mcu2 += 1
                if k2 < 0:  # it goes on from the next bit
                    sound = mcu2
                    word2, count2, at2 = _placed(at2 * _8 - count2 + _1)
                store_word(marks2 + mcu2 * stride, at2 * _8 - count2)
                goes2 = mcu2 < num_mcus and at2 * _8 + _8 <= end_bits + count2
            k2, table2 = np.int64(0), nowhere
            if goes2:
                mark = marks2 + mcu2 * stride
                word2, count2, at2, k2 = _begun(word2, count2, at2, plan2, mark, before2, tables_at)
                table2 = _word_at(plan2 + _AC)
        if goes2 and at2 * _8 > end_bits + count2:  # then the first finds its way alone
            goes2, sound, k2, table2 = False, num_mcus + 1, np.int64(0), nowhere
            word2, count2, at2 = _placed(start * _8)
    return mcu1, mcu2, common, sound


@compiled()
def _note_events(blocks, num_mcus, interval, met, common, before, marks, start, end, events):  # type: ignore[no-untyped-def]
    """Writes the events; their number. met: the first walk's MCU that began where the second's `common` did; before (4,): the
    DC values at that MCU, as the first walk found them; start: of the bits, where marks count from."""
    number = np.int64(0)
    for mcu in range(interval, num_mcus, interval):
        mark = marks[mcu if mcu < met else num_mcus + 1 + mcu - met + common]
        note(events, number, mark[0] - start, mark[0] - start, RESTART, 0)
        number += 1
        for block in range(blocks.shape[0]):
            component = blocks[block, 0]
            if block > 0 and blocks[block - 1, 0] == component:
                continue
            place, value, value_before = mark[1 + 3 * component], mark[2 + 3 * component], mark[3 + 3 * component]
            if mcu >= met:
                offset = before[component] - marks[num_mcus + 1 + common, 3 + 3 * component]
                value += offset
                value_before += offset
            if value_before != 0:
                if magnitude(value)[0] > MAX_DC_BITS:
                    return np.int64(-1)
                where = (place >> 6) - start
                note(events, number, where, where + (place & 63), blocks[block, 1], value)
                number += 1
    note(events, number, end, end, RESTART, 0)
    return number + 1
