"""Windows of stored JPEGs as the tables and memories that the kernels of `kernels.cuda.jpeg` decode, made in plain Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deit_fast.kernels.cuda import jpeg as kernels
from deit_fast.kernels.jpeg import decode_tables as head
from deit_fast.kernels.jpeg import device_tables as device_tables
from deit_fast.kernels.jpeg import planes, tiles
from deit_fast.kernels.jpeg.decode_scratch import RANGES, STREAMS, part
from deit_fast.kernels.jpeg.tile_bits import ends_with, length_of
from tests.guarded import GuardedMemory
from tests.kernels.cuda.devices import given
from tests.kernels.jpeg.stored import Stored

GUARD = 64  # bytes, or numbers, beside each memory
NAMES = ("encoded", "jpegs", "tiles", "bits", "coefficients", "samples", "pixels", "statuses")


@dataclass(frozen=True)
class Window:
    """A block of tiles of a stored JPEG, and the pixels that are wanted: first row, end, first column, end."""

    stored: Stored
    block: tuple[int, ...]
    need: tuple[int, ...]


def whole(stored: Stored) -> Window:
    _, _, _, width, height = stored.grid
    return Window(stored, (0, stored.tile_rows, 0, stored.tile_columns), (0, height, 0, width))


class Batch:
    """The memories of windows; `refused`: those on which the host decides, by header, index and markers."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self.windows = windows
        self.refused = np.zeros(len(windows), bool)
        self.jpegs = np.zeros((len(windows), device_tables.JPEG_LENGTH), np.int64)
        self._tiles: list[list[int]] = []
        self._bytes = bytearray(b"\x77" * GUARD)
        self._end = GUARD  # of the last JPEG's bytes
        self.num_blocks = self.num_samples = self.num_pixels = 0
        for number, window in enumerate(windows):
            if not self._add(self.jpegs[number], number, window):
                self.refused[number] = True
                self._leave(self.jpegs[number])
        self.tiles = np.array(self._tiles or [[0] * device_tables.TILE_LENGTH], np.int64)

    def _leave(self, row: NDArray[np.int64]) -> None:
        """A JPEG of no tile, block or pixel."""
        row[:] = 0
        row[device_tables.CODES : device_tables.CODES + 4] = -1
        row[device_tables.FIRST_TILE] = len(self._tiles)
        row[device_tables.FIRST_BLOCK], row[device_tables.FIRST_SAMPLE] = self.num_blocks, self.num_samples
        row[device_tables.FIRST_PIXEL] = GUARD + 3 * self.num_pixels

    def _add(self, row: NDArray[np.int64], number: int, window: Window) -> bool:
        stored, block = window.stored, window.block
        encoded = np.frombuffer(stored.encoded, np.uint8)
        interval, mcu_width, mcu_height, width, height = stored.grid
        facts = np.zeros(head.NUM_FACTS, np.int64)
        if not head.read_facts(encoded, stored.header_bytes, facts):
            return False
        top, left, rows, columns = tiles.pixels_of(stored.grid, block)
        horizontal, vertical = int(facts[head.HORIZONTAL]), int(facts[head.VERTICAL])
        seen = (facts[head.WIDTH], facts[head.HEIGHT], facts[head.INTERVAL], 8 * horizontal, 8 * vertical)
        if seen != (width, height, interval, mcu_width, mcu_height) or (horizontal == 2 and columns <= 4):
            return False
        count = int(facts[head.NUM_COMPONENTS])
        pairs = [(int(facts[head.COMPONENTS + 3 * c + 1]), int(facts[head.COMPONENTS + 3 * c + 2])) for c in range(count)]
        distinct = list(dict.fromkeys(pairs))
        if len(distinct) > 2:
            return False
        wanted = window.need[0] - top, window.need[1] - top, window.need[2] - left, window.need[3] - left
        scratch = np.zeros(STREAMS, np.uint8)
        planes.find_ranges(facts, wanted, rows, columns, scratch)
        first_row, end_row = planes.mcus_of(count, vertical, wanted[0], wanted[1], rows)
        first_mcu, end_mcu = planes.mcus_of(count, horizontal, wanted[2], wanted[3], columns)
        first_column, end_column = first_mcu // interval, -(-end_mcu // interval)

        start = len(self._bytes)
        sent = bytearray(stored.encoded[: stored.header_bytes])
        rows_of_tiles = []
        lengths = np.frombuffer(stored.lengths, np.uint8)
        at, last = stored.header_bytes, stored.tile_rows * stored.tile_columns - 1
        for tile in range(last + 1):
            length = int(length_of(lengths, stored.length_bytes, tile))
            y, x = tile // stored.tile_columns - block[0], tile % stored.tile_columns - block[2]
            if 0 <= y < block[1] - block[0] and 0 <= x < block[3] - block[2]:
                if first_row <= y < end_row and first_column <= x < end_column:
                    if not ends_with(encoded, at, length, 0xD9 if tile == last else 0xD0 + (tile & 7)):
                        return False
                    begin = start + len(sent)
                    sent += stored.encoded[at : at + length - 2]
                    num_mcus = min(end_mcu - x * interval, interval)
                    rows_of_tiles.append([number, begin, start + len(sent), num_mcus, int((x + 1) * interval <= end_mcu)])
                else:
                    rows_of_tiles.append([number, start, start, 0, 0])
            at += length
        num_in_mcu = horizontal * vertical + count - 1
        self._leave(row)
        row[device_tables.TILE_ROWS], row[device_tables.TILE_COLUMNS] = block[1] - block[0], block[3] - block[2]
        row[device_tables.INTERVAL], row[device_tables.NUM_COMPONENTS] = interval, count
        row[device_tables.HORIZONTAL], row[device_tables.VERTICAL] = horizontal, vertical
        row[device_tables.ROWS], row[device_tables.COLUMNS] = rows, columns
        for place, (dc, ac) in enumerate(distinct):
            at_codes = device_tables.CODES + 2 * place
            row[at_codes], row[at_codes + 1] = start + facts[head.DEFINITIONS + dc], start + facts[head.DEFINITIONS + ac]
        row[device_tables.SELECTED] = sum(distinct.index(pair) << c for c, pair in enumerate(pairs))
        for c in range(count):
            table = facts[head.QUANTIZATIONS + facts[head.COMPONENTS + 3 * c]]
            row[device_tables.FACTORS + c] = start + table
        ranges = part(scratch, RANGES, (3, 4), np.int64)
        for place, component in enumerate((0, 1)[: 1 + (count > 1)]):
            first_y, end_y, first_x, end_x = ranges[component].tolist()
            at_blocks = device_tables.WANTED + 4 * place
            row[at_blocks : at_blocks + 4] = first_y // 8, -(-end_y // 8), first_x // 8, -(-end_x // 8)
        self._bytes += sent + bytes(-len(sent) % 64)
        self._end = start + len(sent)
        self._tiles += rows_of_tiles
        num_blocks = len(rows_of_tiles) * interval * num_in_mcu
        self.num_blocks, self.num_samples = self.num_blocks + num_blocks, self.num_samples + 64 * num_blocks
        self.num_pixels += rows * columns
        return True

    def decode(self, device: str = "cpu", module: Any = kernels) -> tuple[NDArray[np.int32], list[NDArray[np.uint8]]]:
        """Statuses, and the pixels (rows, columns, 3) of each window; memory beside theirs must stay as it is."""
        encoded = torch.from_numpy(np.frombuffer(bytes(self._bytes) + b"\x77" * GUARD, np.uint8).copy()).to(device)
        jpegs, table = torch.from_numpy(self.jpegs).to(device), torch.from_numpy(self.tiles).to(device)
        coefficients = torch.zeros(64 * self.num_blocks + GUARD, dtype=torch.int16, device=device)
        num_words = device_tables.num_bit_words(len(self._bytes), len(self.tiles))
        bits = torch.full((num_words + GUARD,), 80, dtype=torch.int32, device=device)
        samples = torch.full((self.num_samples + GUARD,), 78, dtype=torch.uint8, device=device)
        pixels = torch.full((3 * self.num_pixels + 2 * GUARD,), 79, dtype=torch.uint8, device=device)
        statuses = torch.zeros(len(self.windows), dtype=torch.int32, device=device)
        module.decode(
            (given(encoded), given(encoded.view(torch.int32))), given(jpegs), given(table),
            len(self.windows), given(bits), given(coefficients),
            (given(samples), given(samples.view(torch.int32))), given(pixels), given(statuses),
        )  # fmt: skip
        assert (bits[num_words:] == 80).all()
        assert not coefficients[64 * self.num_blocks :].any()
        assert (samples[self.num_samples :] == 78).all()
        assert (pixels[:GUARD] == 79).all() and (pixels[GUARD + 3 * self.num_pixels :] == 79).all()
        return statuses.cpu().numpy(), self._images(pixels.cpu().numpy())

    def decode_guarded(
        self, module: Any, memory: dict[str, GuardedMemory]
    ) -> tuple[NDArray[np.int32], list[NDArray[np.uint8]]]:
        """The same on the CPU, where each array ends with the last byte that may be read or written; memory: of NAMES."""
        content = bytes(self._bytes[: self._end])
        words = memory["encoded"].array(-(-len(content) // 4), np.int32)
        encoded = words.view(np.uint8)
        encoded[: len(content)] = np.frombuffer(content, np.uint8)
        jpegs = memory["jpegs"].array(self.jpegs.shape, np.int64)
        table = memory["tiles"].array(self.tiles.shape, np.int64)
        jpegs[:], table[:] = self.jpegs, self.tiles
        bits = memory["bits"].array(device_tables.num_bit_words(len(words) * 4, len(self.tiles)), np.int32, 80)
        coefficients = memory["coefficients"].array(64 * self.num_blocks, np.int16)
        samples = memory["samples"].array(self.num_samples // 4, np.int32)
        pixels = memory["pixels"].array(GUARD + 3 * self.num_pixels, np.uint8, 79)
        statuses = memory["statuses"].array(len(self.windows), np.int32)
        of_samples = samples.view(np.uint8), samples
        module.decode((encoded, words), jpegs, table, len(self.windows), bits, coefficients, of_samples, pixels, statuses)
        assert (jpegs == self.jpegs).all() and (table == self.tiles).all()
        assert bytes(encoded[: len(content)]) == content
        assert (pixels[:GUARD] == 79).all()
        return statuses, self._images(pixels)

    def _images(self, pixels: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        images = []
        for row in self.jpegs:
            rows, columns, first = row[device_tables.ROWS], row[device_tables.COLUMNS], row[device_tables.FIRST_PIXEL]
            images.append(pixels[first : first + 3 * rows * columns].reshape(rows, columns, 3))
        return images
