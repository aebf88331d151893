"""Writes the restart intervals of a JPEG, which are its tiles, from tokens, coefficients, or bits of another JPEG."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_fast.data.convert.transcode.header import Header, NotTranscodable, write_header
from deit_fast.data.format.layout import Tiling
from deit_fast.kernels.jpeg import bitstream, encode_blocks, entropy, huffman

_TILE_WIDTH = 128  # in pixels, the target


@functools.lru_cache(maxsize=4096)
def restart_interval(mcus_per_row: int, mcu_width: int) -> int:
    """MCUs in a tile: the divisor of a row that is nearest to 128 pixels, if it is 64 to 256 pixels; else the row."""
    divisors = (d for d in range(1, min(mcus_per_row, 2 * _TILE_WIDTH // mcu_width) + 1) if mcus_per_row % d == 0)
    nearest = min(divisors, key=lambda d: abs(d * mcu_width - _TILE_WIDTH))
    return nearest if _TILE_WIDTH // 2 <= nearest * mcu_width <= 2 * _TILE_WIDTH else mcus_per_row


class Scratch:
    """Uninitialised arrays by name, each as large as the largest image needed."""

    def __init__(self) -> None:
        self._arrays: dict[str, NDArray[Any]] = {}

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._arrays[name]

    def array(self, name: str, dtype: Any, *shape: int) -> NDArray[Any]:
        """An array of at least shape[0] rows."""
        array = self._arrays.get(name)
        if array is None or len(array) < shape[0]:
            self._arrays.pop(name, None)
            array = self._arrays[name] = np.empty((shape[0] + shape[0] // 4, *shape[1:]), dtype)
        return array

    def clear(self) -> None:
        self._arrays.clear()


@dataclass(frozen=True, eq=False)
class Coefficients:
    """Those of a whole JPEG: values (blocks, 64) int16 and masks (blocks,) uint64, see `kernels.jpeg.encode_blocks`.

    header: of a sequential JPEG of these; its Huffman tables may lack their definitions.
    """

    header: Header
    values: NDArray[np.int16]
    masks: NDArray[np.uint64]


class TileWriter:
    """Writes whole JPEGs with restart markers, in one process; `scratch` is shared with what fills it."""

    def __init__(self, scratch: Scratch) -> None:
        self._scratch = scratch
        self._tables = huffman.CodeTables()
        self._codes = np.zeros((8, 256), np.uint32)  # code << 8 | its bits

    def define(self, definitions: dict[int, bytes]) -> None:
        """Takes up Huffman tables by number, AC tables from 4 on."""
        for table, definition in definitions.items():
            is_sound = self._tables.define(table, definition)
            assert is_sound
        self._codes[:] = self._tables.codes.astype(np.uint32) << 8 | self._tables.lengths

    def from_coefficients(self, found: Coefficients, head: bytes | None = None) -> tuple[bytes, Tiling]:
        """The JPEG of coefficients. head: its header, with the Huffman tables taken up last; None: the shortest tables.

        Raises NotTranscodable if a coefficient is none of a baseline JPEG.
        """
        header, masks = found.header, found.masks
        mcus_per_row, num_rows = header.grid
        interval = restart_interval(mcus_per_row, header.mcu[0])
        source = found.values, masks, header.blocks, interval
        if head is None:
            frequencies = self._scratch.array("frequencies", np.int64, 8, 256)
            _check(encode_blocks.count_symbols(*source, frequencies))
            definitions = self._shortest(list(header.huffman_tables), frequencies)
            head = write_header(header, interval, definitions)
        tiles = np.empty(mcus_per_row // interval * num_rows, np.uint32)
        status = encode_blocks.NO_ROOM
        for block_bytes in (64, 2 * encode_blocks.BLOCK_BYTES):  # what photographs take, and what no block exceeds
            if status == encode_blocks.NO_ROOM:
                most_bytes = len(head) + block_bytes * len(masks) + 16 * (len(tiles) + 1)
                out = self._scratch.array("out", np.uint8, most_bytes)
                status, size = encode_blocks.encode_blocks(*source, self._codes, out, len(head), tiles)
        _check(status)
        out[: len(head)] = np.frombuffer(head, np.uint8)
        return out[:size].tobytes(), Tiling(*header.mcu, interval, len(head), tiles)

    def shortest_tables(self, tables: list[int], num_tokens: int, single: NDArray[np.uint16]) -> dict[int, bytes]:
        """The shortest Huffman tables for the tokens in scratch, by number; single: of the tables that made the tokens."""
        counts = self._scratch.array("counts", np.uint32, 12 * huffman.WINDOWS)
        frequencies = self._scratch.array("frequencies", np.int64, 8, 256)
        huffman.count_symbols(self._scratch["tokens"], num_tokens, single, counts, frequencies)
        return self._shortest(tables, frequencies)

    def _shortest(self, tables: list[int], frequencies: NDArray[np.int64]) -> dict[int, bytes]:
        best = {}
        for table in tables:
            definition = np.zeros(272, np.uint8)
            best[table] = definition[: huffman.best_table(frequencies[table], definition)].tobytes()
        self.define(best)
        return best

    def from_tokens(self, header: Header, head: bytes, num_tiles: int, single: NDArray[np.uint16]) -> tuple[bytes, Tiling]:
        """The JPEG of the tokens in scratch, with the tables found or defined last; head: its header, which names them."""
        recodings = self._scratch.array("recodings", np.uint64, 12 * huffman.WINDOWS, 2)
        lengths, codes = self._tables.lengths, self._tables.codes
        num_bits = huffman.find_recodings(self._scratch["counts"], single, lengths, codes, recodings)
        num_bytes = int(num_bits) // 8 + num_tiles + 1
        recoded = self._scratch.array("recoded", np.uint8, num_bytes + bitstream.PADDING)
        starts = self._scratch["starts"][: num_tiles + 1]
        events = self._scratch.array("events", np.int64, num_tiles, 4)
        entropy.recode(self._scratch["tokens"], starts, recodings, recoded, events)
        written = self.from_bits(header, head, num_tiles, recoded, num_bytes, num_tiles, self._tables)
        assert written is not None
        return written

    def from_bits(
        self,
        header: Header,
        head: bytes,
        num_tiles: int,
        bits: NDArray[np.uint8],
        num_bytes: int,
        num_events: int,
        tables: huffman.CodeTables,
    ) -> tuple[bytes, Tiling] | None:
        """The JPEG of bits with the events in scratch, or None if the tables lack a code for a needed DC difference."""
        out = self._scratch.array("out", np.uint8, len(head) + 2 * num_bytes + 16 * (num_events + 1))
        out[: len(head)] = np.frombuffer(head, np.uint8)
        tiles = np.empty(num_tiles, np.uint32)
        status, size = entropy.splice(
            bits, self._scratch["events"], num_events, tables.lengths, tables.codes, out, len(head), tiles
        )
        if status != bitstream.OK:
            return None
        mcus_per_row, num_rows = header.grid
        return out[:size].tobytes(), Tiling(*header.mcu, mcus_per_row * num_rows // num_tiles, len(head), tiles)


def _check(status: int) -> None:
    if status != bitstream.OK:
        raise NotTranscodable(f"damaged: {bitstream.REASONS[status]}")
