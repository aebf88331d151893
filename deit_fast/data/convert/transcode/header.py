"""Reads and writes the header of a JPEG: everything before its first scan.

Refuses damaged JPEGs, and kinds that are not transcoded.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from deit_fast.kernels.jpeg.segments import CUT_OFF, NO_MARKER, START_OF_SCAN, WRONG_LENGTH, next_segment

PROGRESSIVE = 0xC2
TRANSFORMED = {PROGRESSIVE: "progressive", 0xC9: "arithmetic", 0xCA: "arithmetic progressive"}  # start-of-frame markers
_UNSUPPORTED = {0xC3: "lossless", **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCB, 0xCD, 0xCE, 0xCF), "hierarchical or lossless")}
_EXTENSIONS = {0xF7: "JPEG-LS", 0xF8: "JPEG-LS"}  # among the markers reserved for extensions
_USUAL = frozenset((0xC0, 0xC2, 0xC4, 0xDB, 0xDD, *range(0xE0, 0xF0), 0xFE))
_NAMED = (0xE0, 0xEE)  # JFIF's and Adobe's, whose first 14 bytes count; thumbnails follow
_IDLE = frozenset((*range(0xE1, 0xEE), 0xEF, 0xFE))  # application data and comments that have no say in pixels
_MAX_SIDE = 65500  # libjpeg's limit
_next_segment = next_segment.py_func  # works on bytes without an array


class NotTranscodable(ValueError):
    """A JPEG is not transcoded, for the reason given in one short line."""


@dataclass(frozen=True)
class Component:
    """A component of a frame: sampling factors, and its quantisation, DC and AC tables."""

    identifier: int
    horizontal: int
    vertical: int
    quantization: int
    dc: int = 0
    ac: int = 0


@dataclass(frozen=True, eq=False)
class Header:
    """Everything before the first scan of a JPEG.

    process: the second byte of the start-of-frame marker; restart_interval: in MCUs, 0: none; quantizations, huffman_tables:
    definitions by number, AC tables from 4 on; jfif, adobe: the data of these segments that affect colour, empty: no such
    segment; is_complete: the scan has all components; header_bytes: where the scan's data start.
    """

    process: int
    precision: int
    width: int
    height: int
    components: tuple[Component, ...]
    restart_interval: int
    quantizations: dict[int, bytes]
    huffman_tables: dict[int, bytes]
    jfif: bytes
    adobe: bytes
    is_complete: bool
    header_bytes: int

    @functools.cached_property
    def mcu(self) -> tuple[int, int]:
        """Width and height in pixels; with a single component an MCU is one block, whatever the sampling factors."""
        if len(self.components) == 1:
            return 8, 8
        return 8 * max(c.horizontal for c in self.components), 8 * max(c.vertical for c in self.components)

    @functools.cached_property
    def grid(self) -> tuple[int, int]:
        """Number of MCUs in a row, and of rows."""
        mcu_width, mcu_height = self.mcu
        return -(-self.width // mcu_width), -(-self.height // mcu_height)

    @functools.cached_property
    def blocks(self) -> NDArray[np.int64]:
        """Component, DC table and AC table (from 4 on) of each block of an MCU, (b, 3)."""
        blocks = []
        for place, c in enumerate(self.components):
            blocks += [(place, c.dc, 4 + c.ac)] * (c.horizontal * c.vertical if len(self.components) > 1 else 1)
        return np.array(blocks, np.int64)


def segments(encoded: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of the data of each segment up to the first start of scan."""
    if encoded[:2] != b"\xff\xd8":
        raise NotTranscodable("no JPEG: it does not start with FF D8")
    at, size = 2, len(encoded)
    while True:
        # the usual segment in a few steps: headers are read for every image
        if at + 4 <= size and encoded[at] == 0xFF and encoded[at + 1] in _USUAL:
            end = at + 2 + (encoded[at + 2] << 8 | encoded[at + 3])
            if at + 4 <= end <= size:
                yield encoded[at + 1], at + 4, end
                at = end
                continue
        marker, start, end = _next_segment(encoded, at, size)
        if marker == NO_MARKER:
            raise NotTranscodable(f"damaged: no marker at byte {at}")
        if marker == CUT_OFF:
            raise NotTranscodable("damaged: the header ends early")
        is_too_long = marker == WRONG_LENGTH
        if is_too_long:
            marker = encoded[start]
        if marker < 0xC0 or 0xD0 <= marker <= 0xD9:
            raise NotTranscodable(f"damaged: marker FF {marker:02X} in the header")
        if 0xF0 <= marker <= 0xFD:
            raise NotTranscodable(f"{_EXTENSIONS.get(marker, 'an extension of JPEG')}: FF {marker:02X}")
        if is_too_long:
            raise NotTranscodable(f"damaged: the length of segment FF {marker:02X} is wrong")
        yield marker, start, end
        if marker == START_OF_SCAN:
            return
        at = end


@functools.lru_cache(maxsize=1024)  # most images of a set have the tables of others
def _tables(data: bytes, kind: str) -> tuple[tuple[int, bytes], ...]:
    """First byte and definition of each quantisation or Huffman table of a segment."""
    at = 0
    found = []
    while at < len(data):
        if kind == "quantisation":
            size = 128 if data[at] >> 4 else 64
            is_legal = data[at] & 0xEC == 0
        else:
            size = 16 + sum(data[at + 1 : at + 17])
            is_legal = data[at] & 0xEC == 0 and size <= 16 + 256
        if not is_legal or at + 1 + size > len(data):
            raise NotTranscodable(f"damaged: {kind} table")
        found.append((data[at], data[at + 1 : at + 1 + size]))
        at += 1 + size
    return tuple(found)


@functools.lru_cache(maxsize=1024)
def _frame(marker: int, data: bytes) -> tuple[int, int, int, tuple[Component, ...]]:
    """Precision, width, height and components of a start of frame."""
    if marker in _UNSUPPORTED:
        raise NotTranscodable(f"{_UNSUPPORTED[marker]}: FF {marker:02X}")
    if len(data) < 6 or len(data) != 6 + 3 * data[5]:
        raise NotTranscodable("damaged: the length of the frame header is wrong")
    precision, height, width, num_components = struct.unpack_from(">BHHB", data)
    if precision != 8:
        raise NotTranscodable(f"{precision} bits per sample")
    if num_components not in (1, 3):
        raise NotTranscodable(f"{num_components} components")
    if not (width and height):
        raise NotTranscodable(f"damaged: size {width}x{height}")
    if max(width, height) > _MAX_SIDE:
        raise NotTranscodable(f"size {width}x{height}: libjpeg takes sides of at most {_MAX_SIDE}")
    triples = (data[at : at + 3] for at in range(6, len(data), 3))
    components = tuple(Component(number, factors >> 4, factors & 15, table) for number, factors, table in triples)
    horizontal, vertical = [c.horizontal for c in components], [c.vertical for c in components]
    factors = f"sampling factors {', '.join(f'{h}x{v}' for h, v in zip(horizontal, vertical, strict=True))}"
    if not all(1 <= factor <= 4 for factor in horizontal + vertical):
        raise NotTranscodable(f"damaged: {factors}")
    blocks = sum(h * v for h, v in zip(horizontal, vertical, strict=True))
    if num_components == 3 and blocks > 10:
        raise NotTranscodable(f"more than 10 blocks in an MCU: {factors}")
    if any(max(horizontal) % h for h in horizontal) or any(max(vertical) % v for v in vertical):
        raise NotTranscodable(f"fractional {factors}")
    if len({c.identifier for c in components}) < num_components:
        raise NotTranscodable("damaged: two components of one name")
    return precision, width, height, components


@functools.lru_cache(maxsize=1024)
def _scan(data: bytes, process: int, components: tuple[Component, ...]) -> tuple[Component, ...]:
    """Components of a start of scan, with their Huffman tables."""
    if not data or len(data) != 4 + 2 * data[0] or not 1 <= data[0] <= len(components):
        raise NotTranscodable("damaged: the scan header")
    if process in TRANSFORMED or data[0] < len(components):
        return components
    if data[-3:] != b"\0\x3f\0" or bytes(c.identifier for c in components) != data[1:-3:2]:
        raise NotTranscodable("damaged: the scan header is not that of a sequential JPEG")
    if any(tables & 0xCC for tables in data[2:-3:2]):
        raise NotTranscodable("damaged: number of a Huffman table")
    return tuple(
        replace(component, dc=tables >> 4, ac=tables & 15) for component, tables in zip(components, data[2:-3:2], strict=True)
    )


def read_header(encoded: bytes) -> Header:
    """Reads the header; raises NotTranscodable if it is damaged or of a kind that is not transcoded.

    JPEGs whose headers say the same, in as many bytes, share one, with all that was derived from it.
    """
    found = []
    end = 0
    try:
        for marker, start, end in segments(encoded):
            if marker not in _IDLE:
                found.append((marker, encoded[start : min(end, start + 14) if marker in _NAMED else end]))
    except NotTranscodable:
        _header(tuple(found), end)  # what is wrong before that counts first
        raise
    return _header(tuple(found), end)


@functools.lru_cache(maxsize=1024)
def _header(found: tuple[tuple[int, bytes], ...], header_bytes: int) -> Header:
    """The header of these segments, each a marker and its data."""
    process = precision = width = height = restart_interval = 0
    components: tuple[Component, ...] = ()
    quantizations: dict[int, bytes] = {}
    huffman_tables: dict[int, bytes] = {}
    jfif = adobe = b""
    is_complete = False
    for marker, data in found:
        if marker == 0xDB:
            quantizations.update((head & 15, bytes([head]) + table) for head, table in _tables(data, "quantisation"))
        elif marker == 0xC4:
            huffman_tables.update(((head >> 2) + (head & 3), table) for head, table in _tables(data, "Huffman"))
        elif marker == 0xDD:
            if len(data) != 2:
                raise NotTranscodable("damaged: the restart interval")
            (restart_interval,) = struct.unpack(">H", data)
        elif marker == 0xE0 and data[:5] == b"JFIF\0" and len(data) >= 14:
            jfif = jfif or data[:12] + b"\0\0"  # without its thumbnail
        elif marker == 0xEE and data[:5] == b"Adobe" and len(data) >= 12:
            adobe = data[:12]
        elif marker == 0xDA:
            if not components:
                raise NotTranscodable("damaged: a scan without a frame")
            components = _scan(data, process, components)
            is_complete = data[0] == len(components)
        elif marker == 0xDC:
            raise NotTranscodable("damaged: FF DC before the first scan")
        elif marker in (0xDE, 0xDF):
            raise NotTranscodable(f"hierarchical: FF {marker:02X}")
        elif marker < 0xD0 and marker not in (0xC8, 0xCC):
            if components:
                raise NotTranscodable("damaged: two frames")
            process = marker
            precision, width, height, components = _frame(marker, data)
        elif marker == 0xC8:
            raise NotTranscodable("damaged: marker FF C8")
    return Header(
        process, precision, width, height, components, restart_interval, quantizations, huffman_tables, jfif, adobe,
        is_complete, header_bytes,
    )  # fmt: skip


def _segment(marker: int, *parts: bytes) -> bytes:
    data = b"".join(parts)
    return struct.pack(">BBH", 0xFF, marker, 2 + len(data)) + data


def write_header(header: Header, restart_interval: int, huffman_tables: dict[int, bytes]) -> bytes:
    """The header of a JPEG of one scan with all components, with the restart interval and the Huffman tables given.

    Has only what affects the pixels: leaves out other segments, and tables that no component uses.
    """
    components = header.components
    used = [header.quantizations[number] for number in sorted({c.quantization for c in components})]
    # call extended sequential JPEGs baseline where they could be: more decoders know that
    is_baseline = all(number & 3 < 2 for number in huffman_tables) and all(table[0] < 16 for table in used)
    process = 0xC0 if is_baseline else header.process
    frame = [bytes((c.identifier, c.horizontal << 4 | c.vertical, c.quantization)) for c in components]
    scan = [bytes((c.identifier, c.dc << 4 | c.ac)) for c in components]
    return b"".join(
        (
            b"\xff\xd8",
            _segment(0xE0, header.jfif) if header.jfif else b"",
            _segment(0xEE, header.adobe) if header.adobe else b"",
            _segment(0xDB, *used),
            _segment(process, struct.pack(">BHHB", 8, header.height, header.width, len(components)), *frame),
            _segment(0xC4, *(bytes((number << 2 & 16 | number & 3,)) + table for number, table in huffman_tables.items())),
            _segment(0xDD, struct.pack(">H", restart_interval)),
            _segment(0xDA, bytes((len(components),)), *scan, b"\0\x3f\0"),
        )
    )


def jpeg_size(encoded: bytes) -> tuple[int, int]:
    """Width and height in pixels; raises NotTranscodable if the header up to there is damaged or of another kind."""
    for marker, start, end in segments(encoded):
        if is_frame(marker):
            return _frame(marker, encoded[start:end])[1:3]
    raise NotTranscodable("damaged: a scan without a frame")


def is_frame(marker: int) -> bool:
    """Whether a marker starts a frame."""
    return 0xC0 <= marker < 0xD0 and marker not in (0xC4, 0xC8, 0xCC)
