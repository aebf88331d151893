"""Rewrites a JPEG as a baseline JPEG of the same coefficients, with restart markers that tile its MCUs.

Sequential JPEGs of one scan are transcoded bit by bit (`entropy`). Our own decoder reads the coefficients of progressive ones;
TurboJPEG turns the rest into sequential ones first. Damaged or irregular JPEGs are refused: they may still decode in Pillow,
which then decides.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deit_fast.data.convert.transcode.behind_scan import ends_idly, with_height
from deit_fast.data.convert.transcode.header import (
    PROGRESSIVE,
    TRANSFORMED,
    Component,
    Header,
    NotTranscodable,
    jpeg_size,
    read_header,
    segments,
    write_header,
)
from deit_fast.data.convert.transcode.progressive import read_progressive
from deit_fast.data.convert.transcode.standard_tables import STANDARD_TABLES
from deit_fast.data.convert.transcode.tile_writer import Scratch, TileWriter, restart_interval
from deit_fast.data.convert.transcode.transform import Transformer
from deit_fast.data.format.layout import Tiling
from deit_fast.kernels.addresses import HoldsAddresses
from deit_fast.kernels.jpeg import bitstream, entropy, huffman, scan_halves, turbojpeg

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

_MOST_MCUS_IN_HALVES = 1 << 16  # of an image: the walks take up to 160 bytes for each
_MCUS = {"4:4:4": (8, 8), "4:2:2": (16, 8), "4:2:0": (16, 16), "4:4:0": (8, 16), "4:1:1": (32, 8)}


@dataclass(frozen=True, eq=False)
class Transcoded:
    """A transcoded JPEG, and how it was made: from the source's bits, its coefficients, or what TurboJPEG made of it."""

    encoded: bytes
    width: int
    height: int
    components: int
    tiling: Tiling
    way: Literal["bits", "coefficients", "TurboJPEG"]


def sampling_mcu(subsampling: str) -> tuple[int, int]:
    """Width and height in pixels of an MCU of three components, from a name such as 4:2:0."""
    if subsampling not in _MCUS:
        raise ValueError(f"subsampling={subsampling!r}: want one of {', '.join(_MCUS)}")
    return _MCUS[subsampling]


class Transcoder(HoldsAddresses):
    """Transcodes JPEGs in one process; keeps tables, and as much scratch memory as the largest image needed.

    optimize: give each image the shortest Huffman tables, which makes files about 4 % smaller. Without it, only images that
    were not sequential get them, and those whose tables lack a code for a DC difference that must be written.
    """

    def __init__(self, *, optimize: bool) -> None:
        self._optimize = optimize
        self._tables = huffman.HuffmanTables()
        self._scratch = Scratch()
        self._writer = TileWriter(self._scratch)
        self._room = scan_halves.make_room()
        self._transformer: Transformer | None = None
        self._decoder: turbojpeg.DecoderHandles | None = None

    def close(self) -> None:
        """Frees all memory; safe to call twice."""
        self._scratch.clear()
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
            return self._transcode(encoded, header, is_original=True)
        if header.process == PROGRESSIVE:
            found = read_progressive(encoded, header, self._scratch)
            if found is not None:
                return _transcoded(header, self._writer.from_coefficients(found), "coefficients")
        self._transformer = self._transformer or Transformer()
        source, kind = encoded, TRANSFORMED.get(header.process, "several scans")
        encoded = self._transformer.transform(source, kind)
        # the transform states the colours in its own way; keep the source's
        kept = replace(read_header(encoded), jfif=header.jfif, adobe=header.adobe)
        out = self._transcode(encoded, kept, is_original=False)
        # decoders smooth a progressive JPEG that lacks a scan, and no other
        if not self._have_same_pixels(source, out, kind):
            raise NotTranscodable(f"{kind}: as a baseline JPEG it has other pixels")
        return out

    def sequential(self, encoded: bytes) -> tuple[bytes, NDArray[np.int16]] | None:
        """Of a progressive JPEG: a header of a sequential one, and its coefficients, valid until the next call.

        None for other kinds, and if TurboJPEG must decide.
        """
        try:
            header = read_header(encoded)
        except NotTranscodable:
            return None
        found = read_progressive(encoded, header, self._scratch) if header.process == PROGRESSIVE else None
        if found is None:
            return None
        tables = {table: STANDARD_TABLES[table] for table in found.header.huffman_tables}
        return write_header(found.header, 0, tables), found.values

    def _have_same_pixels(self, source: bytes, out: Transcoded, kind: str) -> bool:
        self._decoder = self._decoder or turbojpeg.DecoderHandles(1)
        pixels = self._scratch.array("pixels", np.uint8, 2 * out.height * out.width * 3)
        halves = pixels[: 2 * out.height * out.width * 3].reshape(2, -1)
        for encoded, half in zip((source, out.encoded), halves, strict=True):
            data = np.frombuffer(encoded, np.uint8)
            status = int(turbojpeg.decode_jpeg(self._decoder.pointers, data, out.height, out.width, half))
            if status != turbojpeg.OK:
                raise NotTranscodable(f"damaged: {kind}: {turbojpeg.reason(status, data, out.height, out.width)}")
        return np.array_equal(*halves)

    def _transcode(self, encoded: bytes, header: Header, *, is_original: bool) -> Transcoded:
        plan = _plan(header)
        for table, definition in plan.definitions.items():
            if not self._tables.define(table, definition):
                raise NotTranscodable("damaged: Huffman table")
        num_bytes = self._unstuff(encoded, header)
        written = None
        if is_original and not self._optimize:
            num_events, _ = self._scan(header, num_bytes, plan.interval, record=False)
            bits = self._scratch["bits"]
            written = self._writer.from_bits(header, plan.head, plan.num_tiles, bits, num_bytes, num_events, self._tables)
        if written is None:  # or it comes from the transform, whose tables were made for no particular image
            _, num_tokens = self._scan(header, num_bytes, plan.interval, record=True)
            best = self._writer.shortest_tables(list(plan.definitions), num_tokens, self._tables.single)
            head = write_header(header, plan.interval, best)
            written = self._writer.from_tokens(header, head, plan.num_tiles, self._tables.single)
        return _transcoded(header, written, "bits" if is_original else "TurboJPEG")

    def _unstuff(self, encoded: bytes, header: Header) -> int:
        """Fills bits and resets; returns the number of bytes of bits."""
        num_resets = _num_resets(header)
        bits = self._scratch.array("bits", np.uint8, len(encoded) - header.header_bytes + bitstream.PADDING)
        resets = self._scratch.array("resets", np.int64, num_resets)[:num_resets]
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
        events = self._scratch.array("events", np.int64, most_events, 4)
        tables = self._tables.single, self._tables.steps, self._tables.limits, self._tables.offsets, self._tables.symbols
        if not (record or header.restart_interval) and num_mcus <= _MOST_MCUS_IN_HALVES:
            num_starts = num_mcus * len(blocks) + scan_halves.SLACK
            block_starts = self._scratch.array("block_starts", np.int64, 2 * num_starts)[: 2 * num_starts].reshape(2, -1)
            found = scan_halves.scan_halves(
                self._scratch["bits"], num_bytes, blocks, num_mcus, interval, tables, self._room, block_starts, events
            )
            if found >= 0:
                return int(found), 0
        # a token has at least one bit, and a block overruns the end of the bits at most once
        most_tokens = min(65 * len(blocks) * num_mcus, 8 * num_bytes + 65) + 1 if record else 1
        starts = self._scratch.array("starts", np.int64, num_intervals + 1)
        status, mcu, num_events = entropy.scan(
            self._scratch["bits"],
            num_bytes,
            self._scratch["resets"][:num_resets],
            blocks,
            num_mcus,
            header.restart_interval or num_mcus,
            interval,
            tables,
            int(record),
            self._scratch.array("tokens", np.uint32, most_tokens),
            starts,
            events,
        )
        if status != bitstream.OK:
            raise NotTranscodable(f"damaged: {bitstream.REASONS[status]} in MCU {mcu}")
        return int(num_events), int(starts[num_intervals])


def _transcoded(header: Header, written: tuple[bytes, Tiling], way: Literal["bits", "coefficients", "TurboJPEG"]) -> Transcoded:
    return Transcoded(written[0], header.width, header.height, len(header.components), written[1], way)


def _num_resets(header: Header) -> int:
    """Number of restart markers that the header promises."""
    num_mcus = header.grid[0] * header.grid[1]
    return -(-num_mcus // header.restart_interval) - 1 if header.restart_interval else 0


@dataclass(frozen=True, eq=False)
class _Plan:
    """What is written for a header: its Huffman tables by number, MCUs in a tile, number of tiles, and the new header."""

    definitions: dict[int, bytes]
    interval: int
    num_tiles: int
    head: bytes


@functools.lru_cache(maxsize=1024)  # images of a set share headers
def _plan(header: Header) -> _Plan:
    used = sorted({c.dc for c in header.components} | {4 + c.ac for c in header.components})
    known = STANDARD_TABLES | header.huffman_tables
    if not all(table in known for table in used):
        raise NotTranscodable("damaged: a Huffman table is missing")
    if not all(c.quantization in header.quantizations for c in header.components):
        raise NotTranscodable("damaged: a quantisation table is missing")
    definitions = {table: known[table] for table in used}
    mcus_per_row, num_rows = header.grid
    interval = restart_interval(mcus_per_row, header.mcu[0])
    head = write_header(header, interval, definitions)
    return _Plan(definitions, interval, mcus_per_row // interval * num_rows, head)


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
