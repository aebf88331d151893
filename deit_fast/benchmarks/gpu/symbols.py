"""Counts the Huffman symbols of JPEGs' tiles, on the CPU: how long a thread that decodes a tile must take."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg import device_tables as there
from deit_fast.kernels.jpeg.bitstream import PADDING, bits_from
from deit_fast.kernels.jpeg.huffman import HuffmanTables, symbol_of
from deit_fast.kernels.jpeg.tile_bits import unstuff_tile

_FIRST_AC = 4  # of the tables of `huffman.HuffmanTables`


def count_symbols(encoded: NDArray[np.uint8], jpegs: NDArray[np.int64], tiles: NDArray[np.int64]) -> NDArray[np.int64]:
    """(T,) int64: symbols of each tile up to its last wanted MCU. Arguments: see `kernels.jpeg.device_tables`.

    For sound JPEGs: of a damaged tile, those before the damage.
    """
    counts = np.zeros(len(tiles), np.int64)
    tables = HuffmanTables()
    for row in jpegs:
        for number, at in enumerate(row[there.CODES : there.CODES + 4].tolist()):
            if at >= 0:
                num_codes = int(encoded[at : at + 16].sum(dtype=np.int64))
                table = number // 2 + (_FIRST_AC if number % 2 else 0)
                tables.define(table, encoded[at : at + 16 + num_codes].tobytes())
        first = row[there.FIRST_TILE]
        own = slice(first, first + row[there.TILE_ROWS] * row[there.TILE_COLUMNS])
        _count(encoded, row, tiles[own], tables.limits, tables.offsets, tables.symbols, counts[own])
    return counts


@compiled()
def _count(encoded, jpeg, tiles, limits, offsets, symbols, counts):  # type: ignore[no-untyped-def]
    """Fills counts (T,) of a JPEG's tiles; the others: rows of `HuffmanTables`."""
    num_luma = jpeg[there.HORIZONTAL] * jpeg[there.VERTICAL]
    num_blocks = num_luma + jpeg[there.NUM_COMPONENTS] - 1
    for number in range(len(tiles)):
        tile = tiles[number]
        bits = np.zeros(tile[there.END] - tile[there.START] + PADDING, np.uint8)
        num_bits = 8 * unstuff_tile(encoded, tile[there.START], tile[there.END], bits, 0)
        position = np.int64(0)
        for i in range(tile[there.NUM_MCUS] * num_blocks):
            component = max(np.int64(0), i % num_blocks - num_luma + 1)
            table = jpeg[there.SELECTED] >> component & 1
            k = np.int64(0)
            while k < 64 and position < num_bits:
                found = symbol_of(bits_from(bits, np.uint64(position)), limits[table], offsets[table], symbols[table])
                if found < 0:
                    return
                counts[number] += 1
                symbol = found >> 8
                position += (found & 255) + (symbol & 15)
                if k == 0:
                    k, table = np.int64(1), table + _FIRST_AC
                elif symbol == 0:
                    k = np.int64(64)
                else:
                    k += (symbol >> 4) + 1
