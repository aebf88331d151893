"""What a device is sent of a stored JPEG: its header, the tiles under the views, and the tables by which it finds them."""

from __future__ import annotations

import numpy as np

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.copying import copy_bytes
from deit_fast.kernels.jpeg import decode_tables as head
from deit_fast.kernels.jpeg import device_tables as there
from deit_fast.kernels.jpeg import planes, tiles
from deit_fast.kernels.jpeg.tile_bits import ends_with, length_of


@compiled()
def tiles_read(facts, grid, block, need):  # type: ignore[no-untyped-def]
    """((first row, end, first column, end) of the block's tiles that the needed pixels depend on, end of the MCUs in a row).

    Rows and columns are counted from the block's first; need as for `decode_window`, which reads these tiles and MCUs.
    """
    top, left, rows, columns = tiles.pixels_of(grid, block)
    num_components = facts[head.NUM_COMPONENTS]
    first_row, end_row = planes.mcus_of(num_components, facts[head.VERTICAL], need[0] - top, need[1] - top, rows)
    first_mcu, end_mcu = planes.mcus_of(num_components, facts[head.HORIZONTAL], need[2] - left, need[3] - left, columns)
    return (first_row, end_row, first_mcu // grid[0], (end_mcu + grid[0] - 1) // grid[0]), end_mcu


@compiled()
def tiles_in_a_row(grid):  # type: ignore[no-untyped-def]
    """Number of tiles beside each other in the image."""
    return (grid[3] + grid[1] - 1) // grid[1] // grid[0]


@compiled()
def _bytes_of(lengths, length_bytes, first, end):  # type: ignore[no-untyped-def]
    """Bytes of some tiles that are stored one after another, with their markers."""
    total = np.int64(0)
    for tile in range(first, end):
        total += length_of(lengths, length_bytes, tile)
    return total


@compiled()
def num_bytes_read(size, tiling, block, read):  # type: ignore[no-untyped-def]
    """Bytes of header and tiles that are read, of a JPEG of `size` bytes; -1 where its index leads out of it."""
    grid, header_bytes, lengths, length_bytes = tiling
    in_a_row = tiles_in_a_row(grid)
    source = total = np.int64(header_bytes)
    tile = np.int64(0)
    for row in range(block[0] + read[0], block[0] + read[1]):
        first = row * in_a_row + block[2]
        source += _bytes_of(lengths, length_bytes, tile, first + read[2])
        for tile in range(first + read[2], first + read[3]):
            length = length_of(lengths, length_bytes, tile)
            source += length
            total += length
            if length < 2 or source > size:
                return np.int64(-1)
        tile = first + read[3]
    return total


@compiled()
def describe(facts, grid, block, need, row):  # type: ignore[no-untyped-def]
    """Whether a row of the table of JPEGs can say what kind the JPEG is of; fills it, with offsets counted from the JPEG,
    and -1 for tables that it does not have."""
    row[:] = 0
    row[there.CODES : there.CODES + 4] = row[there.FACTORS : there.FACTORS + 3] = -1
    row[there.TILE_ROWS], row[there.TILE_COLUMNS] = block[1] - block[0], block[3] - block[2]
    row[there.INTERVAL], row[there.NUM_COMPONENTS] = grid[0], facts[head.NUM_COMPONENTS]
    row[there.HORIZONTAL], row[there.VERTICAL] = facts[head.HORIZONTAL], facts[head.VERTICAL]
    top, left, rows, columns = tiles.pixels_of(grid, block)
    row[there.ROWS], row[there.COLUMNS] = rows, columns
    for component in range(2 if facts[head.NUM_COMPONENTS] == 3 else 1):
        at = there.WANTED + 4 * component
        y0, y1 = planes.samples_of(component, facts[head.VERTICAL], need[0] - top, need[1] - top, rows)
        x0, x1 = planes.samples_of(component, facts[head.HORIZONTAL], need[2] - left, need[3] - left, columns)
        row[at], row[at + 1], row[at + 2], row[at + 3] = y0 // 8, (y1 + 7) // 8, x0 // 8, (x1 + 7) // 8
    num_pairs = 0
    for component in range(facts[head.NUM_COMPONENTS]):
        place = head.COMPONENTS + 3 * component
        row[there.FACTORS + component] = facts[head.QUANTIZATIONS + facts[place]]
        dc, ac = facts[head.DEFINITIONS + facts[place + 1]], facts[head.DEFINITIONS + facts[place + 2]]
        pair = 0
        while pair < num_pairs and (row[there.CODES + 2 * pair] != dc or row[there.CODES + 2 * pair + 1] != ac):
            pair += 1
        if pair == 2:
            return False
        if pair == num_pairs:
            row[there.CODES + 2 * pair], row[there.CODES + 2 * pair + 1] = dc, ac
            num_pairs += 1
        row[there.SELECTED] |= pair << component
    return True


@compiled()
def place(row, first_tile, first_block, first_byte, first_pixel):  # type: ignore[no-untyped-def]
    """Says in a row of the table of JPEGs where its parts begin; gives its numbers of tiles, blocks and bytes of pixels."""
    num_tiles = row[there.TILE_ROWS] * row[there.TILE_COLUMNS]
    num_blocks = num_tiles * row[there.INTERVAL] * (row[there.HORIZONTAL] * row[there.VERTICAL] + row[there.NUM_COMPONENTS] - 1)
    row[there.FIRST_TILE], row[there.FIRST_BLOCK] = first_tile, first_block
    row[there.FIRST_SAMPLE], row[there.FIRST_PIXEL] = 64 * first_block, first_pixel
    for first, end in ((there.CODES, there.CODES + 4), (there.FACTORS, there.FACTORS + 3)):
        for column in range(first, end):
            if row[column] >= 0:
                row[column] += first_byte
    return num_tiles, num_blocks, 3 * row[there.ROWS] * row[there.COLUMNS]


@compiled()
def send(stored, tiling, block, read, end_mcu, number, target, encoded, rows):  # type: ignore[no-untyped-def]
    """Whether each tile that is read ends with its marker; fills encoded (n,) uint8 from target on, and the block's rows of
    the table of tiles.

    read, end_mcu: of `tiles_read`, where `num_bytes_read` found all tiles inside; number: of the JPEG.
    """
    grid, header_bytes, lengths, length_bytes = tiling
    interval, in_a_row = grid[0], tiles_in_a_row(grid)
    last_tile = lengths.size // length_bytes - 1
    copy_bytes(encoded, target, stored, 0, header_bytes)
    nothing = target
    target += header_bytes
    source, tile = np.int64(header_bytes), np.int64(0)
    is_sound = True
    for row in range(block[1] - block[0]):
        is_read = read[0] <= row < read[1]
        if is_read:
            first = (block[0] + row) * in_a_row + block[2] + read[2]
            source += _bytes_of(lengths, length_bytes, tile, first)
            tile = first
            end = source + _bytes_of(lengths, length_bytes, tile, tile + read[3] - read[2])
            copy_bytes(encoded, target, stored, source, end)
            source = end
        for column in range(block[3] - block[2]):
            entry = rows[row * (block[3] - block[2]) + column]
            entry[there.JPEG] = number
            if not (is_read and read[2] <= column < read[3]):
                entry[there.START] = entry[there.END] = nothing
                entry[there.NUM_MCUS] = entry[there.IS_WHOLE] = 0
                continue
            length = length_of(lengths, length_bytes, tile)
            # in the copy, which is in the processor's cache
            is_sound &= ends_with(encoded, target, length, 0xD9 if tile == last_tile else 0xD0 + (tile & 7))
            entry[there.START], entry[there.END] = target, target + length - 2
            entry[there.NUM_MCUS] = min(end_mcu - column * interval, interval)
            entry[there.IS_WHOLE] = 1 if (column + 1) * interval <= end_mcu else 0
            target += length
            tile += 1
    return is_sound
