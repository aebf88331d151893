"""Rewrites a JPEG as a baseline JPEG of the same coefficients, with restart markers that tile its MCUs.

Sequential JPEGs of one scan are transcoded bit by bit (`entropy`); TurboJPEG first turns others into such. Damaged or irregular
JPEGs are refused: they may still decode in Pillow, which then decides.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_fast.data.convert.transcode.header import (
    TRANSFORMED,
    Component,
    Header,
    NotTranscodable,
    ends_idly,
    jpeg_size,
    read_header,
    segments,
    with_height,
    write_header,
)
from deit_fast.data.convert.transcode.standard_tables import STANDARD_TABLES
from deit_fast.data.convert.transcode.transform import Transformer
from deit_fast.data.format.layout import Tiling
from deit_fast.kernels.addresses import HoldsAddresses
from deit_fast.kernels.jpeg import bitstream, entropy, huffman, turbojpeg

__all__ = [
    "Component",
    "Header",
    "NotTranscodable",
    "Transcoded",
    "Transcoder",
    "jpeg_size",
    "read_header",
    "restart_interval",
    "sampling_mcu",
    "segments",
    "tiling_of",
    "with_height",
]

_TILE_WIDTH = 128  # in pixels, the target
_MCUS = {"4:4:4": (8, 8), "4:2:2": (16, 8), "4:2:0": (16, 16), "4:4:0": (8, 16), "4:1:1": (32, 8)}


@dataclass(frozen=True, eq=False)
class Transcoded:
    """A transcoded JPEG. was_baseline: it did not need TurboJPEG."""

    encoded: bytes
    width: int
    height: int
    components: int
    was_baseline: bool
    tiling: Tiling


def sampling_mcu(subsampling: str) -> tuple[int, int]:
    """Width and height in pixels of an MCU of three components, from a name such as 4:2:0."""
    if subsampling not in _MCUS:
        raise ValueError(f"subsampling={subsampling!r}: want one of {', '.join(_MCUS)}")
    return _MCUS[subsampling]


def restart_interval(mcus_per_row: int, mcu_width: int) -> int:
    """MCUs in a tile: the divisor of a row that is nearest to 128 pixels, if it is 64 to 256 pixels; else the row."""
    divisors = (d for d in range(1, min(mcus_per_row, 2 * _TILE_WIDTH // mcu_width) + 1) if mcus_per_row % d == 0)
    nearest = min(divisors, key=lambda d: abs(d * mcu_width - _TILE_WIDTH))
    return nearest if _TILE_WIDTH // 2 <= nearest * mcu_width <= 2 * _TILE_WIDTH else mcus_per_row


class Transcoder(HoldsAddresses):
    """Transcodes JPEGs in one process; keeps tables, and as much scratch memory as the largest image needed.

    optimize: give each image the shortest Huffman tables, which makes files about 4 % smaller. Without it, only images that
    went through TurboJPEG get them, and those whose tables lack a code for a DC difference that must be written.
    """

    def __init__(self, *, optimize: bool) -> None:
        self._optimize = optimize
        self._tables = huffman.HuffmanTables()
        self._new_tables = huffman.CodeTables()
        self._transformer: Transformer | None = None
        self._decoder: turbojpeg.DecoderHandles | None = None
        self._arrays: dict[str, NDArray[Any]] = {}

    def close(self) -> None:
        """Frees all memory; safe to call twice."""
        self._arrays.clear()
        if self._transformer is not None:
            self._transformer.close()
            self._transformer = None
        if self._decoder is not None:
            self._decoder.close()
            self._decoder = None

    def __del__(self) -> None:
        self.close()

    def transcode(self, encoded: bytes) -> Transcoded:
        """The JPEG with restart markers; raises NotTranscodable with the reason."""
        header = read_header(encoded)
        if header.process not in TRANSFORMED and header.is_complete:
            return self._transcode(encoded, header, was_baseline=True)
        self._transformer = self._transformer or Transformer()
        source, kind = encoded, TRANSFORMED.get(header.process, "several scans")
        encoded = self._transformer.transform(source, kind)
        # the transform states the colours in its own way; keep the source's
        kept = replace(read_header(encoded), jfif=header.jfif, adobe=header.adobe)
        out = self._transcode(encoded, kept, was_baseline=False)
        # decoders smooth a progressive JPEG that lacks a scan, and no other
        if not self._have_same_pixels(source, out, kind):
            raise NotTranscodable(f"{kind}: as a baseline JPEG it has other pixels")
        return out

    def _have_same_pixels(self, source: bytes, out: Transcoded, kind: str) -> bool:
        self._decoder = self._decoder or turbojpeg.DecoderHandles(1)
        pixels = self._array("pixels", np.uint8, 2 * out.height * out.width * 3)
        halves = pixels[: 2 * out.height * out.width * 3].reshape(2, -1)
        for encoded, half in zip((source, out.encoded), halves, strict=True):
            data = np.frombuffer(encoded, np.uint8)
            status = int(turbojpeg.decode_jpeg(self._decoder.pointers, data, out.height, out.width, half))
            if status != turbojpeg.OK:
                raise NotTranscodable(f"damaged: {kind}: {turbojpeg.reason(status, data, out.height, out.width)}")
        return np.array_equal(*halves)

    def _array(self, name: str, dtype: Any, *shape: int) -> NDArray[Any]:
        """Uninitialised memory of at least shape[0] rows, kept from image to image."""
        array = self._arrays.get(name)
        if array is None or len(array) < shape[0]:
            self._arrays.pop(name, None)
            array = self._arrays[name] = np.empty((shape[0] + shape[0] // 4, *shape[1:]), dtype)
        return array

    def _transcode(self, encoded: bytes, header: Header, *, was_baseline: bool) -> Transcoded:
        definitions = _definitions(header)
        for table, definition in definitions.items():
            if not self._tables.define(table, definition):
                raise NotTranscodable("damaged: Huffman table")
        mcus_per_row, num_rows = header.grid
        interval = restart_interval(mcus_per_row, header.mcu[0])
        tiles = np.empty(mcus_per_row // interval * num_rows, np.uint32)
        num_bytes = self._unstuff(encoded, header)
        size = None
        if was_baseline and not self._optimize:
            num_events, _ = self._scan(header, num_bytes, interval, record=False)
            head = write_header(header, interval, definitions)
            size = self._splice(head, "bits", num_bytes, num_events, self._tables, tiles)
        if size is None:  # or it comes from the transform, whose tables were made for no particular image
            _, num_tokens = self._scan(header, num_bytes, interval, record=True)
            definitions, num_bytes = self._recode(definitions, num_tokens, len(tiles))
            head = write_header(header, interval, definitions)
            size = self._splice(head, "recoded", num_bytes, len(tiles), self._new_tables, tiles)
            assert size is not None
        return Transcoded(
            self._arrays["out"][:size].tobytes(),
            header.width,
            header.height,
            len(header.components),
            was_baseline,
            Tiling(*header.mcu, interval, len(head), tiles),
        )

    def _unstuff(self, encoded: bytes, header: Header) -> int:
        """Fills bits and resets; returns the number of bytes of bits."""
        num_resets = _num_resets(header)
        bits = self._array("bits", np.uint8, len(encoded) - header.header_bytes + bitstream.PADDING)
        resets = self._array("resets", np.int64, num_resets)[:num_resets]
        source = np.frombuffer(encoded, np.uint8)
        status, num_bytes, found, end = bitstream.unstuff(source, header.header_bytes, bits, resets)
        if status == bitstream.OTHER_MARKER and ends_idly(encoded, end - 2, header.height):
            bits[num_bytes : num_bytes + bitstream.PADDING] = 0
            status = bitstream.OK
        if status == bitstream.OK and found != num_resets:
            status = bitstream.WRONG_RESTART
        # a block has at least two codes: take no memory for more than a small file can hold
        if status == bitstream.OK and 2 * len(header.blocks) * header.grid[0] * header.grid[1] > 8 * num_bytes:
            status = bitstream.TOO_SHORT
        if status != bitstream.OK:
            raise NotTranscodable(f"damaged: {bitstream.REASONS[status]}")
        return int(num_bytes)

    def _scan(self, header: Header, num_bytes: int, interval: int, *, record: bool) -> tuple[int, int]:
        """Fills events, and tokens and starts if `record`; returns the numbers of events and tokens."""
        num_mcus = header.grid[0] * header.grid[1]
        num_intervals = num_mcus // interval
        num_resets = _num_resets(header)
        blocks = header.blocks
        most_events = (1 + len(header.components)) * (num_intervals + num_resets) + 1
        # a token has at least one bit, and a block overruns the end of the bits at most once
        most_tokens = min(65 * len(blocks) * num_mcus, 8 * num_bytes + 65) + 1 if record else 1
        starts = self._array("starts", np.int64, num_intervals + 1)
        status, mcu, num_events = entropy.scan(
            self._arrays["bits"],
            num_bytes,
            self._arrays["resets"][:num_resets],
            blocks,
            num_mcus,
            header.restart_interval or num_mcus,
            interval,
            (self._tables.single, self._tables.steps, self._tables.limits, self._tables.offsets, self._tables.symbols),
            int(record),
            self._array("tokens", np.uint32, most_tokens),
            starts,
            self._array("events", np.int64, most_events, 4),
        )
        if status != bitstream.OK:
            raise NotTranscodable(f"damaged: {bitstream.REASONS[status]} in MCU {mcu}")
        return int(num_events), int(starts[num_intervals])

    def _recode(self, definitions: dict[int, bytes], num_tokens: int, num_tiles: int) -> tuple[dict[int, bytes], int]:
        """Fills recoded from tokens, with the shortest tables of the same numbers; returns the tables and number of bytes."""
        tokens, single = self._arrays["tokens"], self._tables.single
        counts = self._array("counts", np.uint32, 12 * huffman.WINDOWS)
        frequencies = self._array("frequencies", np.int64, 8, 256)
        recodings = self._array("recodings", np.uint64, 12 * huffman.WINDOWS, 2)
        huffman.count_symbols(tokens, num_tokens, single, counts, frequencies)
        best = {}
        for table in definitions:
            definition = np.zeros(272, np.uint8)
            best[table] = definition[: huffman.best_table(frequencies[table], definition)].tobytes()
            is_sound = self._new_tables.define(table, best[table])
            assert is_sound
        num_bits = huffman.find_recodings(counts, single, self._new_tables.lengths, self._new_tables.codes, recodings)
        num_bytes = int(num_bits) // 8 + num_tiles + 1
        recoded = self._array("recoded", np.uint8, num_bytes + bitstream.PADDING)
        starts = self._arrays["starts"][: num_tiles + 1]
        entropy.recode(tokens, starts, recodings, recoded, self._array("events", np.int64, num_tiles, 4))
        return best, num_bytes

    def _splice(
        self, head: bytes, bits: str, num_bytes: int, num_events: int, tables: huffman.CodeTables, tiles: NDArray[np.uint32]
    ) -> int | None:
        """Fills out; returns the number of bytes, or None if the tables lack a code for a needed DC difference."""
        out = self._array("out", np.uint8, len(head) + 2 * num_bytes + 16 * (num_events + 1))
        out[: len(head)] = np.frombuffer(head, np.uint8)
        events = self._arrays["events"]
        status, size = entropy.splice(
            self._arrays[bits], events, num_events, tables.lengths, tables.codes, out, len(head), tiles
        )
        return int(size) if status == bitstream.OK else None


def _num_resets(header: Header) -> int:
    """Number of restart markers that the header promises."""
    num_mcus = header.grid[0] * header.grid[1]
    return -(-num_mcus // header.restart_interval) - 1 if header.restart_interval else 0


def _definitions(header: Header) -> dict[int, bytes]:
    """The Huffman tables of the components."""
    used = sorted({c.dc for c in header.components} | {4 + c.ac for c in header.components})
    known = STANDARD_TABLES | header.huffman_tables
    if not all(table in known for table in used):
        raise NotTranscodable("damaged: a Huffman table is missing")
    if not all(c.quantization in header.quantizations for c in header.components):
        raise NotTranscodable("damaged: a quantisation table is missing")
    return {table: known[table] for table in used}


def tiling_of(encoded: bytes) -> Tiling:
    """Finds a baseline JPEG's restart intervals by its markers; raises NotTranscodable if they do not fit the grid."""
    header = read_header(encoded)
    if header.process in TRANSFORMED or not header.is_complete:
        raise NotTranscodable(f"{TRANSFORMED.get(header.process, 'several scans')}: it has no tiles")
    tiles = np.empty(_num_resets(header) + 1, np.uint32)
    status = bitstream.find_tiles(np.frombuffer(encoded, np.uint8), header.header_bytes, tiles)
    if status != bitstream.OK:
        raise NotTranscodable(f"damaged: {bitstream.REASONS[status]}")
    interval = header.restart_interval or header.grid[0] * header.grid[1]
    return Tiling(*header.mcu, interval, header.header_bytes, tiles)
