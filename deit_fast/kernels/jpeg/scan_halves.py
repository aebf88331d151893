"""Walks through a scan from its start and from its middle at once, which takes less time: each step waits for the one before.

The second walk begins at some bit as if an MCU began there. Huffman codes fall into step: sooner or later it comes upon the
start of an MCU, and is right from there on. The first walk goes on until it comes upon an MCU that began for both. The walks
only note where blocks begin; DC values are added up afterwards. Where anything is odd, `entropy.scan` must tell.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import carray
from numba.extending import register_jitable
from numpy.typing import NDArray

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg.bitstream import load_at
from deit_fast.kernels.jpeg.block_starts import note_tiles
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
from deit_fast.kernels.vectors import copy_bytes, load_halfword, load_word, store_word

SLACK = 4  # blocks that a walk may note beyond the last
_STRIDE = 256  # bytes from one look at whether the walks have met to the next

# Of a block of an MCU: addresses of its DC and AC steps; from this row to that of the next block; numbers of its tables
_DC, _AC, _TO_NEXT, _DC_NUMBER, _AC_NUMBER = (np.int64(8 * word) for word in range(5))
_PLAN_BYTES = 64

# Of a walk: the coming bits, and the address behind those that are sure to be there; how many of 63 bits are used | the
# coefficient that is next << STEP_SHIFT, so that a step is added to both at once; addresses of the block's row, and of where
# the next start is noted; where to look, and to stop, at the latest
_WORD, _AT, _USED, _PLAN, _PLACE, _LIMIT, _STOP = range(7)
_FIRST, _SECOND = 1, 2  # walks that need a single symbol

_U = np.uint64  # Numba makes floats of sums of signed and unsigned integers
_1, _3, _7, _8, _63 = (np.uint64(number) for number in (1, 3, 7, 8, 63))
_WINDOW_SHIFT = np.uint64(64 - LOOKUP_BITS)
_BLOCK = np.uint64(64 << STEP_SHIFT)


@register_jitable(forceinline=True)
def _word_at(address):  # type: ignore[no-untyped-def]
    return np.int64(load_word(np.int64(address)))


@register_jitable(forceinline=True)
def _looked_up(table, word):  # type: ignore[no-untyped-def]
    """The 16 bits that a table has for coming bits."""
    return load_halfword(table + np.int64(word >> _WINDOW_SHIFT << _1))


@register_jitable(forceinline=True)
def _refilled(word, at, used):  # type: ignore[no-untyped-def]
    """(word, at, used) with at least 56 bits: 63 - used of the word are sure to be there, and `at` is behind these."""
    word |= load_at(at) >> (_63 - (_U(used) & _63))
    return word, at + (_U(used) >> _3 & _7), used & ~56


@register_jitable(forceinline=True)
def _placed(position):  # type: ignore[no-untyped-def]
    """(word, at, used) from a bit on; position: of it from address 0 on."""
    at = position >> _3
    return load_at(at) << (position & _7), at + _7, np.int64(_7 + (position & _7))


@register_jitable(forceinline=True)
def _position(at, used):  # type: ignore[no-untyped-def]
    return at * _8 + _U(used & 63) - _63


@register_jitable(forceinline=True)
def _next_block(word, at, used, plan, place):  # type: ignore[no-untyped-def]
    """(word, at, used, plan, place, step) after the step of the next block's first coefficient, which may be unknown."""
    store_word(place, _position(at, used))
    plan += _word_at(plan + _TO_NEXT)
    word, at, used = _refilled(word, at, used & 63)
    step = _looked_up(_word_at(plan + _DC), word)
    return word << _U(step & 63), at, used + step, plan, place + 8, step


@register_jitable(forceinline=True)
def _is_whole(used):  # type: ignore[no-untyped-def]
    """Whether a block without coefficients left is complete: there was no step beyond it, and none that is unknown."""
    k = used >> STEP_SHIFT
    return k == 64 or ENDS <= k < ENDS + 64


@compiled()
def _long_symbol(word, number, tables_at):  # type: ignore[no-untyped-def]
    """`huffman.symbol_of` in one of the eight tables, whose limits, offsets and symbols lie at three addresses."""
    limits = carray(void_pointer(_word_at(tables_at)), (8, 17), np.int32)
    offsets = carray(void_pointer(_word_at(tables_at + 8)), (8, 17), np.int32)
    symbols = carray(void_pointer(_word_at(tables_at + 16)), (8, 256), np.uint8)
    return symbol_of(word, limits[number], offsets[number], symbols[number])


class Room(NamedTuple):
    """Scratch for `scan_halves`: arrays, since compiled code lets go of its own while their addresses are still in use."""

    addresses: NDArray[np.int64]  # of limits, offsets and symbols of the tables
    lookups: NDArray[np.uint16]  # the steps of all tables, and some that lead nowhere, for a walk that has ended
    plans: NDArray[np.int64]  # a row for each block of an MCU, and one that leads nowhere
    states: NDArray[np.uint64]  # of both walks


def make_room() -> Room:
    """Room for any JPEG."""
    lookups = np.zeros(9 * WINDOWS, np.uint16)
    return Room(np.zeros(3, np.int64), lookups, np.zeros((11, 8), np.int64), np.zeros((2, 7), np.uint64))


@compiled()
def scan_halves(bits, num_bytes, blocks, num_mcus, interval, tables, room, starts, events):  # type: ignore[no-untyped-def]
    """Number of events, those of `entropy.scan` for a source without restart markers; -1 if that must tell.

    Arguments as there; room: of `make_room`; starts (2, >= blocks of num_mcus + SLACK) int64: scratch.
    """
    _, steps, limits, offsets, symbols = tables
    room.addresses[0], room.addresses[1], room.addresses[2] = limits.ctypes.data, offsets.ctypes.data, symbols.ctypes.data
    copy_bytes(steps, room.lookups)
    lookups_at, plans_at = np.int64(room.lookups.ctypes.data), np.int64(room.plans.ctypes.data)
    per_mcu = blocks.shape[0]
    for block in range(per_mcu):
        plan = room.plans[block]
        plan[0], plan[1] = lookups_at + 2 * WINDOWS * blocks[block, 1], lookups_at + 2 * WINDOWS * blocks[block, 2]
        plan[2] = _PLAN_BYTES * ((block + 1) % per_mcu - block)
        plan[3], plan[4] = blocks[block, 1], blocks[block, 2]
    room.plans[10, 1] = lookups_at + 16 * WINDOWS
    bits_at = _U(bits.ctypes.data)
    met, common = _walk(
        bits_at, num_bytes, num_mcus * per_mcu, per_mcu, plans_at, starts, room.states, np.int64(room.addresses.ctypes.data)
    )
    if met < 0:
        return np.int64(-1)
    first = np.int64(bits_at) * 8
    end = starts[0, met] if met == num_mcus * per_mcu else starts[1, common + num_mcus * per_mcu - met]
    if not 0 <= first + 8 * num_bytes - end < 8:
        return np.int64(-1)
    return note_tiles(first, blocks, num_mcus, interval, met, common, starts, tables, end, events)


@compiled()
def _walk(bits_at, num_bytes, num_blocks, per_mcu, plans, starts, states, tables_at):  # type: ignore[no-untyped-def]
    """(block of the first walk, block of the second that began at the same bit): both begin an MCU, and the second walk went to
    the end. The first is num_blocks if the first walk found all; negative if the walks are of no use."""
    fails = np.int64(-1), np.int64(-1)
    end_at = bits_at + _U(num_bytes)
    first, second = states[0], states[1]
    first[_STOP], second[_STOP] = _at(starts[0], num_blocks + 1), _at(starts[1], num_blocks + 1)
    second[_LIMIT] = end_at + _8
    _begin(first, bits_at * _8, plans, starts[0])
    _begin(second, (bits_at + _U(num_bytes // 2)) * _8, plans, starts[1])
    met, common = np.int64(0), np.int64(0)
    odd, goes2, meets = np.int64(_FIRST | _SECOND), True, False
    while True:
        is_sound = not odd & _FIRST or _take_symbol(first, tables_at)
        if _num_known(first, starts[0]) > num_blocks:
            return np.int64(num_blocks), np.int64(0)
        if not is_sound or _position(first[_AT], first[_USED]) > end_at * _8:
            return fails
        while odd & _SECOND and goes2 and not _take_symbol(second, tables_at):
            position = _position(second[_AT], second[_USED])
            goes2 = not meets and position + _8 <= end_at * _8
            if goes2:  # it starts again from the next bit
                _begin(second, position + _1, plans, starts[1])
                common = np.int64(0)
        known1, known2 = _num_known(first, starts[0]), _num_known(second, starts[1])
        while not meets and met < known1 and common < known2:
            difference = starts[0, met] - starts[1, common]
            meets = difference == 0
            met += per_mcu if difference < 0 else 0
            common += per_mcu if difference > 0 else 0
        goes2 = goes2 and _position(second[_AT], second[_USED]) < end_at * _8 and known2 <= num_blocks
        if not goes2:
            if meets:
                return (met, common) if common + num_blocks - met < known2 else fails
            second[_PLAN], second[_USED] = plans + 10 * _PLAN_BYTES, _7
        first[_LIMIT] = min(max(first[_AT] + _U(_STRIDE), _U(starts[1, 0]) >> _3), end_at + _8)
        odd = _go_on(first, second)


@register_jitable(forceinline=True)
def _at(starts, number):  # type: ignore[no-untyped-def]
    """The address of a number."""
    return _U(starts.ctypes.data + 8 * number)


@register_jitable(forceinline=True)
def _num_known(state, starts):  # type: ignore[no-untyped-def]
    """Number of blocks whose start the walk has noted."""
    return np.int64(state[_PLACE] - _at(starts, 0)) >> 3


@compiled()
def _begin(state, position, plans, starts):  # type: ignore[no-untyped-def]
    """Begins a walk with an MCU at a bit, which then needs a single symbol."""
    starts[0] = position
    state[_WORD], state[_AT], state[_USED] = _placed(position)
    state[_PLAN], state[_PLACE] = plans, _at(starts, 1)


@register_jitable(forceinline=True)
def _taken_up(state):  # type: ignore[no-untyped-def]
    return state[_WORD], state[_AT], np.int64(state[_USED]), np.int64(state[_PLAN]), np.int64(state[_PLACE])


@compiled()
def _go_on(first, second):  # type: ignore[no-untyped-def]
    """Goes on with both walks until one must be looked at; which of them need a single symbol."""
    word1, at1, used1, plan1, place1 = _taken_up(first)
    word2, at2, used2, plan2, place2 = _taken_up(second)
    table1, table2 = _word_at(plan1 + _AC), _word_at(plan2 + _AC)
    step1, step2 = np.int64(0), np.int64(0)
    goes, odd = True, np.int64(0)
    while goes:
        while True:
            word1, at1, used1 = _refilled(word1, at1, used1)
            word2, at2, used2 = _refilled(word2, at2, used2)
            step1, step2 = _looked_up(table1, word1), _looked_up(table2, word2)
            word1, word2 = word1 << _U(step1 & 63), word2 << _U(step2 & 63)
            used1, used2 = used1 + step1, used2 + step2
            if _U(used1 | used2) >= _BLOCK:
                break
            step1, step2 = _looked_up(table1, word1), _looked_up(table2, word2)
            word1, word2 = word1 << _U(step1 & 63), word2 << _U(step2 & 63)
            used1, used2 = used1 + step1, used2 + step2
            if _U(used1 | used2) >= _BLOCK:
                break
        if _U(used1) >= _BLOCK and _is_whole(used1):
            word1, at1, used1, plan1, place1, step1 = _next_block(word1, at1, used1, plan1, place1)
            table1 = _word_at(plan1 + _AC)
            goes = at1 <= first[_LIMIT] and _U(place1) < first[_STOP]
        if _U(used1) >= _BLOCK:
            used1 -= step1
            odd, goes = odd | _FIRST, False
        if _U(used2) >= _BLOCK and _is_whole(used2):
            word2, at2, used2, plan2, place2, step2 = _next_block(word2, at2, used2, plan2, place2)
            table2 = _word_at(plan2 + _AC)
            goes = goes and at2 <= second[_LIMIT] and _U(place2) < second[_STOP]
        if _U(used2) >= _BLOCK:
            used2 -= step2
            odd, goes = odd | _SECOND, False
    first[_WORD], first[_AT], first[_USED], first[_PLAN], first[_PLACE] = word1, at1, used1, plan1, place1
    second[_WORD], second[_AT], second[_USED], second[_PLAN], second[_PLACE] = word2, at2, used2, plan2, place2
    return odd


@compiled()
def _take_symbol(state, tables_at):  # type: ignore[no-untyped-def]
    """Moves a walk by single symbols, from a step that was unknown or went beyond the block into a block; False if one is
    unsound."""
    plan = np.int64(state[_PLAN])
    k = np.int64(state[_USED]) >> STEP_SHIFT
    word, at, used = _placed(_position(state[_AT], state[_USED]))
    while True:
        word, at, used = _refilled(word, at, used)
        entry = _long_symbol(word, _word_at(plan + (_DC_NUMBER if k == 0 else _AC_NUMBER)), tables_at)
        symbol = entry >> 8
        if entry < 0 or (symbol > MAX_DC_BITS if k == 0 else not is_coefficient(symbol)):
            return False
        taken = (entry & 255) + (symbol & 15)
        word, used = word << _U(taken), used + taken
        if k > 0 and symbol == 0:
            k = np.int64(64)
        else:
            k += (symbol >> 4) + 1 if k > 0 else 1
        if k > 64:
            return False
        if k == 64:
            k = np.int64(0)
            store_word(np.int64(state[_PLACE]), _position(at, used))
            plan += _word_at(plan + _TO_NEXT)
            state[_PLACE] += _8
        state[_WORD], state[_AT], state[_USED], state[_PLAN] = word, at, used | k << STEP_SHIFT, plan
        if k > 0:
            return True
