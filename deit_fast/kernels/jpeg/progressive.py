"""Decodes the scans of a progressive JPEG to coefficients, where libjpeg would have nothing to remark on any of them.

Coefficients are (blocks, 64) int16, in the order of a sequential scan's blocks, each row by row; beside them a mask of 64 bits
for each block says which coefficients after the first are not 0, in the order of the zigzag. See ITU-T T.81, annex G.
"""

from __future__ import annotations

import numpy as np

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg.bitstream import OK, OTHER_MARKER, PADDING, unstuff
from deit_fast.kernels.jpeg.huffman import WINDOWS, define, invert
from deit_fast.kernels.jpeg.progressive_scans import ac_first, ac_refined, dc_first, dc_refined, entry_of
from deit_fast.kernels.jpeg.segments import next_segment

UNUSUAL = 1  # for libjpeg: damaged, or of a kind that no common encoder writes
_MOST_SCANS = 100  # a small file can demand thousands, which take a pass over all blocks each
_NOT_SENT = 99

_U = np.uint64


@compiled()
def blocks_of(component, sampling, grid, width, height, order):  # type: ignore[no-untyped-def]
    """Number of the component's blocks, row by row as in a scan of its own; writes their places among all into order.

    sampling (components, 2) int64: horizontal and vertical factors; grid: MCUs in a row, and rows.
    """
    num_components = sampling.shape[0]
    horizontal, vertical = sampling[component, 0], sampling[component, 1]
    most_horizontal, most_vertical = np.int64(1), np.int64(1)
    first = per_mcu = np.int64(0)
    for other in range(num_components):
        most_horizontal, most_vertical = max(most_horizontal, sampling[other, 0]), max(most_vertical, sampling[other, 1])
        if other < component:
            first += sampling[other, 0] * sampling[other, 1]
        per_mcu += sampling[other, 0] * sampling[other, 1]
    columns = (width * horizontal + 8 * most_horizontal - 1) // (8 * most_horizontal)
    rows = (height * vertical + 8 * most_vertical - 1) // (8 * most_vertical)
    number = np.int64(0)
    for y in range(rows):
        start = (y // vertical * grid[0]) * per_mcu + first + y % vertical * horizontal
        left = horizontal
        for x in range(columns):  # divisions would take as long as a scan
            order[number + x] = start + horizontal - left
            left -= 1
            if left == 0:
                start += per_mcu
                left = horizontal
        number += columns
    return number


@compiled()
def _define_tables(encoded, at, end, tables):  # type: ignore[no-untyped-def]
    """Takes up the Huffman tables of a segment; whether all are sound."""
    entries, limits, offsets, symbols, lengths, codes = tables
    single = np.empty(WINDOWS, np.uint16)
    while at < end:
        if encoded[at] & 0xEC != 0 or at + 17 > end:
            return False
        table = np.int64(encoded[at] >> 2) + np.int64(encoded[at] & 3)
        size = np.int64(16)
        for i in range(1, 17):
            size += np.int64(encoded[at + i])
        if size > 16 + 256 or at + 1 + size > end:
            return False
        definition = encoded[at + 1 : at + 1 + size]
        if not define(definition, table < 4, lengths, codes):
            return False
        invert(definition, codes, single, limits[table], offsets[table], symbols[table])
        for window in range(WINDOWS):
            found = np.int64(single[window])
            entries[table, window] = entry_of(found) if found > 0 else 0
        at += 1 + size
    return True


@compiled()
def _judge(encoded, at, end, names, accuracy, chosen):  # type: ignore[no-untyped-def]
    """(components in the scan, first and last coefficient, higher and lower bit) of a scan's header; 0 components: unusual.

    names (components,): of the frame; accuracy (components, 64): the lowest bit sent of each coefficient, _NOT_SENT before
    any, brought up to date; chosen (components, 3): number, DC and AC table of each component of the scan.
    """
    unusual = np.int64(0), np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    if at >= end:
        return unusual
    count = np.int64(encoded[at])
    if end - at != 4 + 2 * count or not (count == 1 or count == names.size):
        return unusual
    first, last = np.int64(encoded[end - 3]), np.int64(encoded[end - 2])
    high, low = np.int64(encoded[end - 1] >> 4), np.int64(encoded[end - 1] & 15)
    if first > last or last > 63 or (first == 0 and last > 0) or (first > 0 and count > 1) or low > 10:
        return unusual
    if high != 0 and high != low + 1:
        return unusual
    for i in range(count):
        number = i
        if count == 1:
            while number < names.size and names[number] != encoded[at + 1]:
                number += 1
        if number >= names.size or names[number] != encoded[at + 1 + 2 * i] or encoded[at + 2 + 2 * i] & 0xCC != 0:
            return unusual
        chosen[i, 0] = number
        chosen[i, 1] = np.int64(encoded[at + 2 + 2 * i] >> 4)
        chosen[i, 2] = 4 + np.int64(encoded[at + 2 + 2 * i] & 15)
        if first > 0 and accuracy[number, 0] == _NOT_SENT:
            return unusual
        for k in range(first, last + 1):
            if accuracy[number, k] != (_NOT_SENT if high == 0 else high):
                return unusual
            accuracy[number, k] = low
    return count, first, last, high, low


@compiled()
def read_scans(encoded, names, sampling, grid, size, bits, coefficients, masks):  # type: ignore[no-untyped-def]
    """OK, or UNUSUAL where TurboJPEG must decide; writes the coefficients of a progressive JPEG and their masks.

    encoded (n,) uint8, its header sound; names (components,) uint8; sampling, grid: as in `blocks_of`; size: width and height
    in pixels; bits (>= n + PADDING,) uint8: scratch. Written: coefficients (blocks, 64) int16 and masks (blocks,) uint64. All
    bits of all coefficients must have been sent, or decoders smooth what they show.
    """
    coefficients[:] = 0
    masks[:] = 0
    accuracy = np.full((names.size, 64), _NOT_SENT, np.int64)
    chosen = np.zeros((3, 3), np.int64)
    tables = (
        np.zeros((8, WINDOWS), np.uint32), np.zeros((8, 17), np.int32), np.zeros((8, 17), np.int32),
        np.zeros((8, 256), np.uint8), np.zeros(256, np.uint8), np.zeros(256, np.uint16),
    )  # fmt: skip
    places = np.empty((names.size, masks.size), np.int32)
    counts = np.zeros(names.size, np.int64)
    for component in range(names.size):
        counts[component] = blocks_of(component, sampling, grid, size[0], size[1], places[component])
    everything = np.arange(masks.size).astype(np.int32)
    at, num_scans, interval = np.int64(2), np.int64(0), np.int64(0)
    while True:
        while at + 1 < encoded.size and encoded[at] == 0xFF and encoded[at + 1] == 0xFF:
            at += 1
        if at + 1 < encoded.size and encoded[at] == 0xFF and encoded[at + 1] == 0xD9:
            return OK if accuracy.max() == 0 else UNUSUAL
        marker, data, end = next_segment(encoded, at, encoded.size)
        at = end
        if marker == 0xC4:
            if not _define_tables(encoded, data, end, tables):
                return UNUSUAL
        elif marker == 0xDD:
            if end - data != 2:
                return UNUSUAL
            interval = np.int64(encoded[data]) << 8 | np.int64(encoded[data + 1])
        elif marker == 0xDA:
            num_scans += 1
            count, first, last, high, low = _judge(encoded, data, end, names, accuracy, chosen)
            if count == 0 or num_scans > _MOST_SCANS:
                return UNUSUAL
            is_whole = count > 1
            order = everything if is_whole else places[chosen[0, 0], : counts[chosen[0, 0]]]
            per_mcu = masks.size // (grid[0] * grid[1]) if is_whole else np.int64(1)
            num_mcus = order.size // per_mcu
            wanted = (num_mcus + interval - 1) // interval - 1 if interval > 0 else np.int64(0)
            resets = np.empty(wanted, np.int64)
            status, num_bytes, num_resets, at = unstuff(encoded, end, bits, resets)
            if (status != OK and status != OTHER_MARKER) or num_resets != wanted:
                return UNUSUAL
            at -= 2
            bits[num_bytes : num_bytes + PADDING] = 0
            how = (per_mcu, sampling, chosen, first, last, high, low, tables, coefficients, masks)
            in_interval = (interval if interval > 0 else num_mcus) * per_mcu
            for number in range(wanted + 1):
                begin = resets[number - 1] if number > 0 else np.int64(0)
                source = (bits, begin, resets[number] if number < wanted else num_bytes)
                if not _read(source, order[number * in_interval : (number + 1) * in_interval], *how):
                    return UNUSUAL
        elif not (0xE0 <= marker <= 0xEF or marker == 0xFE or (num_scans == 0 and (marker == 0xC2 or marker == 0xDB))):
            return UNUSUAL


@compiled()
def _read(source, order, per_mcu, sampling, chosen, first, last, high, low, tables, coefficients, masks):  # type: ignore[no-untyped-def]
    """Decodes one restart interval of a scan; whether it is sound."""
    if first == 0 and high > 0:
        return dc_refined(source, order, low, coefficients)
    if first == 0:
        plan = np.empty((per_mcu, 2), np.int64)  # component and table of each block of an MCU
        number = np.int64(0)
        for i in range(3):
            num_blocks = np.int64(1)
            if per_mcu > 1:
                num_blocks = sampling[i, 0] * sampling[i, 1]
            for _ in range(num_blocks):
                if number < per_mcu:
                    plan[number, 0], plan[number, 1] = chosen[i, 0], chosen[i, 1]
                    number += 1
        return dc_first(source, order, plan, low, tables, coefficients)
    table = chosen[0, 2]
    if high > 0:
        return ac_refined(source, order, first, last, low, tables, table, coefficients, masks)
    return ac_first(source, order, first, last, low, tables, table, coefficients, masks)
