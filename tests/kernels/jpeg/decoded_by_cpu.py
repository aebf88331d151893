"""The device's JPEG decoder as the CPU's functions do it, tile by tile, from what the host sends and nothing else."""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image

from deit_fast.kernels.gather import Totals
from deit_fast.kernels.jpeg import device_tables as there
from deit_fast.kernels.jpeg import tiles
from deit_fast.kernels.jpeg.decode_window import DAMAGED, OK, UNSUPPORTED, decode_window, scratch_bytes


class Memory(Protocol):
    """What is used of a `gpu_decode.DeviceMemory`, on the CPU."""

    @property
    def encoded(self) -> torch.Tensor: ...
    @property
    def jpegs(self) -> torch.Tensor: ...
    @property
    def tiles(self) -> torch.Tensor: ...
    @property
    def pixels(self) -> torch.Tensor: ...
    @property
    def statuses(self) -> torch.Tensor: ...


@dataclass(frozen=True, eq=False)
class SentJpeg:
    """A row of the table of JPEGs with its rows of tiles, and all bytes."""

    row: np.ndarray
    tiles: np.ndarray
    encoded: np.ndarray

    @property
    def mcu(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return 8 * int(self.row[there.HORIZONTAL]), 8 * int(self.row[there.VERTICAL])

    def header(self, height: int, width: int) -> bytes:
        """Of a JPEG with these tables."""
        row, count = self.row, int(self.row[there.NUM_COMPONENTS])
        segments = [(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0")]  # so that three components are YCbCr
        sampling = int(row[there.HORIZONTAL]) << 4 | int(row[there.VERTICAL])
        frame, scan = struct.pack(">BHHB", 8, height, width, count), bytes([count])
        for component in range(count):
            at, pair = int(row[there.FACTORS + component]), int(row[there.SELECTED]) >> component & 1
            precision = int(self.encoded[at]) >> 4
            segments.append((0xDB, bytes([precision << 4 | component]) + self._bytes(at + 1, 64 << precision)))
            frame += bytes([component + 1, sampling if component == 0 else 0x11, component])
            scan += bytes([component + 1, 0x11 * pair])
        for number, at in enumerate(row[there.CODES : there.CODES + 4].tolist()):
            if at >= 0:
                segments.append((0xC4, bytes([(number & 1) << 4 | number >> 1]) + self._bytes(at, 16 + self._num_codes(at))))
        segments += [(0xC0, frame), (0xDD, struct.pack(">H", row[there.INTERVAL])), (0xDA, scan + b"\0\77\0")]
        return b"\xff\xd8" + b"".join(struct.pack(">BBH", 0xFF, marker, 2 + len(data)) + data for marker, data in segments)

    def _bytes(self, start: int, count: int) -> bytes:
        assert start >= 0
        assert start + count <= len(self.encoded)
        return self.encoded[start : start + count].tobytes()

    def _num_codes(self, at: int) -> int:
        return int(self.encoded[at : at + 16].sum(dtype=np.int64))

    def status(self) -> int:
        """Of all tiles, each decoded as a JPEG of its own up to the last MCU that is wanted of it."""
        width, height = int(self.row[there.INTERVAL]) * self.mcu[0], self.mcu[1]
        header = self.header(height, width)
        statuses = [self._status_of(tile, header, width, height) for tile in self.tiles if tile[there.NUM_MCUS]]
        return max(statuses, default=OK)

    def _status_of(self, tile: np.ndarray, header: bytes, width: int, height: int) -> int:
        bits = self._bytes(int(tile[there.START]), int(tile[there.END] - tile[there.START]))
        encoded = np.frombuffer(header + bits + b"\xff\xd9", np.uint8)
        grid = tiles.grid_of(int(self.row[there.INTERVAL]), 1, *self.mcu, width, height)
        # the last column's chroma is interpolated with the next MCU's
        end = int(tile[there.NUM_MCUS]) * self.mcu[0] - (1 if self.mcu[0] == 16 else 0)
        lengths = np.array([len(bits) + 2], "<u4").view(np.uint8)
        scratch, pixels = np.empty(scratch_bytes(width, len(encoded)), np.uint8), np.empty(3 * width * height, np.uint8)
        assert tile[there.IS_WHOLE] == (tile[there.NUM_MCUS] == self.row[there.INTERVAL])
        return int(decode_window(encoded, len(header), lengths, 4, grid, (0, 1, 0, 1), (0, height, 0, end), scratch, pixels))

    def pixels(self) -> np.ndarray:
        """(ROWS, COLUMNS, 3) uint8, right where tiles were sent."""
        encoded = self.header(int(self.row[there.ROWS]), int(self.row[there.COLUMNS]))
        for number, tile in enumerate(self.tiles):
            bits = self._bytes(int(tile[there.START]), int(tile[there.END] - tile[there.START]))
            encoded += bits + bytes([0xFF, 0xD0 + (number & 7)])
        return np.asarray(Image.open(io.BytesIO(encoded[:-1] + b"\xd9")).convert("RGB"))


def sent_jpegs(memory: Memory, totals: Totals) -> list[SentJpeg]:
    """The JPEGs of a batch."""
    rows, of_tiles = memory.jpegs.numpy()[: totals.jpegs], memory.tiles.numpy()[: totals.tiles]
    encoded = memory.encoded.numpy()[: totals.encoded]
    found = []
    for number, row in enumerate(rows):
        first = int(row[there.FIRST_TILE])
        own = of_tiles[first : first + int(row[there.TILE_ROWS] * row[there.TILE_COLUMNS])]
        assert (own[:, there.JPEG] == number).all()
        found.append(SentJpeg(row, own, encoded))
    assert sum(len(jpeg.tiles) for jpeg in found) == totals.tiles
    return found


def decode_tiles(memory: Memory, totals: Totals) -> None:
    """In the place of `gpu_decode.decode_tiles`."""
    pixels, statuses = memory.pixels.numpy(), memory.statuses.numpy()
    assert not statuses[: totals.jpegs].any()
    for number, jpeg in enumerate(sent_jpegs(memory, totals)):
        statuses[number] = {OK: 0, UNSUPPORTED: there.UNSUPPORTED, DAMAGED: there.DAMAGED}[jpeg.status()]
        if statuses[number] == 0:
            image, start = jpeg.pixels().reshape(-1), int(jpeg.row[there.FIRST_PIXEL])
            assert totals.first_pixel <= start <= totals.pixels - image.size
            pixels[start : start + image.size] = image
