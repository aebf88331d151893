"""What the warps of `_decode_tiles` execute for a batch of 256 views, counted on the CPU.

`PYTHONPATH=. python records/2026-11-29-jpeg-kernels/warps.py BETON`

A warp goes through the loop over symbols as often as its longest tile has symbols; a way that any of its threads takes, it
takes. The lengths of the ways were counted by hand in the machine code for sm_90, loop by loop.
"""

import sys

import numpy as np
import torch

from deit_fast.benchmarks.gpu.batch import Source, send
from deit_fast.config import RunConfig
from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg import device_tables as there
from deit_fast.kernels.jpeg.bitstream import PADDING, bits_from
from deit_fast.kernels.jpeg.huffman import HuffmanTables, symbol_of
from deit_fast.kernels.jpeg.tile_bits import unstuff_tile

# Instructions of a turn of the loop over symbols, and of its ways: fetching a word, a long code, a first coefficient, an end
EVERY, WORD, LONG, FIRST, END = 67, 11, 102, 9, 19
UNSTUFF = 78  # of a turn of the loop that copies bits: a word, or one byte beside a stuffed one
ENTRY, SEARCH, CODE = 307, 31, 66  # of an entry of a lookup, of each length that is searched for it, and of a code's definition
LOOKUPS = 32 * (ENTRY + 15 * SEARCH) + 162 * CODE  # a thread makes 32 entries; one defines a table


@compiled()
def trace(encoded, jpeg, tile, limits, offsets, symbols, ways):  # type: ignore[no-untyped-def]
    """Number of a tile's symbols, of which `ways` says which ways they take, bit by bit; and of turns that copy its bits."""
    num_luma = jpeg[there.HORIZONTAL] * jpeg[there.VERTICAL]
    num_blocks = num_luma + jpeg[there.NUM_COMPONENTS] - 1
    turns, at = 0, tile[there.START]
    while at < tile[there.END]:
        is_word = at % 4 == 0 and at + 4 <= tile[there.END] and not (encoded[at : at + 4] == 255).any()
        at += 4 if is_word else 2 if encoded[at] == 255 else 1
        turns += 1
    bits = np.zeros(tile[there.END] - tile[there.START] + PADDING, np.uint8)
    unstuff_tile(encoded, tile[there.START], tile[there.END], bits, 0)
    count, position, fetched = 0, np.int64(0), np.int64(0)
    for i in range(tile[there.NUM_MCUS] * num_blocks):
        component = max(np.int64(0), i % num_blocks - num_luma + 1)
        table = jpeg[there.SELECTED] >> component & 1
        k = np.int64(0)
        while k < 64:
            way = 0
            if fetched - position <= 32:
                way, fetched = 1, fetched + 32
            found = symbol_of(bits_from(bits, np.uint64(position)), limits[table], offsets[table], symbols[table])
            symbol = found >> 8
            way |= (2 if found & 255 > 9 else 0) | (4 if k == 0 else 0)
            position += (found & 255) + (symbol & 15)
            if k == 0:
                k, table = np.int64(1), table + 4
            else:
                k = np.int64(64) if symbol == 0 else k + (symbol >> 4) + 1
            ways[count] = way | (8 if k >= 64 else 0)
            count += 1
    return count, turns


source = Source(RunConfig().changed({"data.train": sys.argv[1]}), 256)
(ids,) = source.ids(256, 1)
batch = send(source, source.planned(ids), torch.device("cpu"))
tables, ways = HuffmanTables(), np.zeros((128, 100_000), np.uint8)
counts = {size: [] for size in (32, 8)}  # of the warps: turns, then turns that take each way, then turns that copy
blocks = []  # turns of a loop for each block, in which all wait for the longest
for row in batch.jpegs:
    for number, at in enumerate(row[there.CODES : there.CODES + 4].tolist()):
        if at >= 0:
            num_codes = int(batch.encoded[at : at + 16].sum(dtype=np.int64))
            tables.define(number // 2 + 4 * (number % 2), batch.encoded[at : at + 16 + num_codes].tobytes())
    own = batch.tiles[row[there.FIRST_TILE] :][: row[there.TILE_ROWS] * row[there.TILE_COLUMNS]]
    how = tables.limits, tables.offsets, tables.symbols
    traced = [
        trace(batch.encoded, row, tile, *how, ways[place]) if tile[there.NUM_MCUS] else (0, 0) for place, tile in enumerate(own)
    ]
    lengths, turns = (np.array(values) for values in zip(*traced, strict=True))
    for size, found in counts.items():
        for first in range(0, len(own), size):
            warp = range(first, min(first + size, len(own)))
            longest = int(lengths[first : first + size].max())
            taken = np.bitwise_or.reduce([np.where(np.arange(longest) < lengths[i], ways[i, :longest], 0) for i in warp])
            found.append(
                [longest, *(int((taken >> bit & 1).sum()) for bit in range(4)), int(turns[first : first + size].max())]
            )
            if size == 32:
                of_blocks = [np.diff(np.flatnonzero(ways[i, : lengths[i]] & 8), prepend=-1) for i in warp]
                most = max(map(len, of_blocks))
                blocks.append(
                    sum(max((int(of[place]) for of in of_blocks if place < len(of)), default=0) for place in range(most))
                )
for size, found in counts.items():
    table = np.array(found)
    symbols_part = table[:, :5] @ [EVERY, WORD, LONG, FIRST, END]
    whole = symbols_part + UNSTUFF * table[:, 5] + LOOKUPS
    print(
        f"{size} tiles a warp: {len(table)} warps; for symbols {symbols_part.sum() / 1e6:.0f} M instructions, "
        f"{symbols_part.sum() / table[:, 0].sum():.0f} a turn, at most {symbols_part.max():,}; with bits and lookups "
        f"{whole.sum() / 1e6:.0f} M, at most {whole.max():,}; lookups {LOOKUPS:,}; "
        f"turns with each way {(table[:, 1:5].sum(0) / table[:, 0].sum()).round(2).tolist()}"
    )
print(f"a loop for each block: {sum(blocks) / sum(row[0] for row in counts[32]):.2f} times as many turns")
