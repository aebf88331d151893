"""Says where a scan is cut into tiles and which DC differences change, from where each of its blocks begins."""

from __future__ import annotations

import numpy as np

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg.bitstream import load_at
from deit_fast.kernels.jpeg.entropy import RESTART, magnitude, note
from deit_fast.kernels.jpeg.huffman import LOOKUP_BITS, MAX_DC_BITS, symbol_of
from deit_fast.kernels.vectors import load_word

_U = np.uint64  # Numba makes floats of sums of signed and unsigned integers
_1, _3, _7, _63 = (np.uint64(number) for number in (1, 3, 7, 63))
_WINDOW_SHIFT = np.uint64(64 - LOOKUP_BITS)


@compiled()
def note_tiles(first, blocks, num_mcus, interval, met, common, starts, tables, end, events):  # type: ignore[no-untyped-def]
    """Number of events, those of `entropy.scan`; -1 if a difference is out of range.

    first, end: of the scan's bits, counted from address 0 on; starts (2, >= blocks) int64: where blocks begin, counted alike:
    those before `met` in the first row, the rest in the second from `common` on; other arguments: of `entropy.scan`.
    """
    single, _, limits, offsets, symbols = tables
    before = np.zeros(4, np.int64)
    number, left = np.int64(0), np.int64(interval)
    places1 = np.int64(starts[0].ctypes.data)
    places2 = np.int64(starts[1].ctypes.data) + 8 * (common - met)
    place = np.int64(0)
    for _ in range(num_mcus):
        at = (places1 if place < met else places2) + 8 * place
        is_tile = left == 0
        if is_tile:
            note(events, number, np.int64(load_word(at)) - first, np.int64(load_word(at)) - first, RESTART, 0)
            number += 1
            left = np.int64(interval)
        left -= 1
        last = np.int64(-1)
        for block in range(_U(blocks.shape[0])):
            component, dc = blocks[block, 0], blocks[block, 1]
            position = load_word(at)
            word = load_at(position >> _3) << (position & _7)
            entry = np.int64(single[dc, word >> _WINDOW_SHIFT])
            if entry == 0:
                entry = symbol_of(word, limits[dc], offsets[dc], symbols[dc])
            size, rest = entry >> 8, word << _U(entry & 255)
            value_before = before[component]
            # without a branch: the sign cannot be foretold
            value = value_before + np.int64((rest >> _1) >> _U(63 - size)) - (((1 << size) - 1) & (np.int64(rest >> _63) - 1))
            before[component] = value
            if is_tile and component != last and value_before != 0:
                if magnitude(value)[0] > MAX_DC_BITS:
                    return np.int64(-1)
                where = np.int64(position) - first
                note(events, number, where, where + (entry & 255) + size, dc, value)
                number += 1
            last = component
            at += 8
        place += blocks.shape[0]
    note(events, number, end - first, end - first, RESTART, 0)
    return number + 1
