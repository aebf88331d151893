"""Lays out a beton: the parts of the file, and the position of each stored image.

    header, descriptions of the fields, metadata      FFCV's
    images                                            nearly in sample order, none across a page
    index: a row for each sample, then tile lengths   ours; stock readers ignore it
    trailer                                           ours: the position of the index
    allocation table, to the end of the file          FFCV's, one row for each sample

All numbers are little-endian, as FFCV writes them. FFCV's own writer puts nothing between the last page and the
allocation table; a reader that does not find the trailer right before the table treats the beton as one without an index.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
from ffcv.fields import IntField, RGBImageField
from ffcv.types import ALLOC_TABLE_TYPE, CURRENT_VERSION, TYPE_ID_HANDLER, FieldDescType, HeaderType, get_metadata_type
from numpy.typing import NDArray

from deit_fast.kernels import placing

LAYOUT_VERSION = 1  # of `place`: a conversion that another version began cannot be resumed
PAGE_BYTES = 8 << 20  # FFCV's default; readers of betons larger than memory fetch whole pages
ALIGNMENT = 64  # of the index, in bytes

FIELDS = {"image": RGBImageField(), "label": IntField()}
_TYPE_IDS = {handler: type_id for type_id, handler in TYPE_ID_HANDLER.items()}
METADATA_TYPE = get_metadata_type(list(FIELDS.values()))

# For each sample: the first 8 bytes of its digest; where the lengths of its tiles start, in bytes from the start of all
# lengths; their number, and the bytes of each (0: stored without tiles); MCUs in a tile; bytes before the first tile;
# pixels of an MCU
INDEX_TYPE = np.dtype(
    [
        ("digest", "V8"),
        ("lengths_start", "<u8"),
        ("num_tiles", "<u4"),
        ("interval", "<u4"),
        ("header_bytes", "<u4"),
        ("mcu_width", "u1"),
        ("mcu_height", "u1"),
        ("length_bytes", "u1"),
        ("reserved", "u1"),
    ]
)

# The digest of a sample covers these, its tiles' lengths and its image
FACTS_TYPE = np.dtype(
    [
        ("label", "<i8"),
        ("width", "<u2"),
        ("height", "<u2"),
        ("mode", "u1"),
        ("mcu_width", "u1"),
        ("mcu_height", "u1"),
        ("length_bytes", "u1"),
        ("num_tiles", "<u4"),
        ("interval", "<u4"),
        ("header_bytes", "<u4"),
        ("size", "<u8"),
    ]
)
# All facts about a stored sample: those in metadata, index and allocation table, and two that are in none of them
SAMPLE_TYPE = np.dtype(
    [
        *FACTS_TYPE.descr,
        ("digest", "V32"),
        ("offset", "<u8"),
        ("is_exact", "?"),  # a JPEG with its source's pixels
        ("orientation", "u1"),  # the source's EXIF orientation
    ]
)

MAGIC = b"deitfast"
TRAILER_VERSION = 1
TRAILER_TYPE = np.dtype(
    [
        ("magic", "S8"),
        ("version", "<u8"),
        ("num_samples", "<u8"),
        ("data_end", "<u8"),  # first byte after the last image
        ("index_start", "<u8"),
        ("lengths_start", "<u8"),
        ("lengths_end", "<u8"),
        ("digest", "V8"),  # of everything before it in the trailer
    ]
)


def data_start(num_samples: int) -> int:
    """File offset from which images may lie, in a beton with room for num_samples samples."""
    head = HeaderType.itemsize + len(FIELDS) * FieldDescType.itemsize + num_samples * METADATA_TYPE.itemsize
    return aligned(head, ALIGNMENT)


def aligned(offset: int, alignment: int) -> int:
    """The offset, rounded up."""
    return -(-offset // alignment) * alignment


def enclosing_page(num_bytes: int) -> int:
    """Smallest power of two that holds num_bytes, at least PAGE_BYTES."""
    return max(PAGE_BYTES, 1 << (num_bytes - 1).bit_length())


def place(sizes: NDArray[np.int64], end: int, part_sizes: NDArray[np.int64] | None = None) -> tuple[NDArray[np.int64], int]:
    """File offsets (n,) for images of these sizes in bytes (n,), the first at or after `end`, and where the last ends.

    Images follow each other in order. If the next would cross a page, the first that still fits before the page's end comes
    before it; if none fits, the next starts the next page. This leaves little space empty: betons of photographs of 110 kB
    became 0.3 % smaller. An image larger than a page starts where a page of the smallest power of two that holds it would:
    with the largest such page in the header, no image crosses a page. part_sizes (p,): number of images in each part of a
    conversion, within which images may change places; None: they are one part.
    """
    parts = np.array([len(sizes)], np.int64) if part_sizes is None else part_sizes
    offsets, end = placing.place(sizes, parts, np.int64(end), np.int64(PAGE_BYTES))
    return offsets, int(end)


def header(num_samples: int, page_bytes: int, table_start: int) -> bytes:
    """FFCV's header and descriptions of the fields `image` and `label`."""
    head = np.zeros(1, HeaderType)
    head["version"] = CURRENT_VERSION
    head["num_fields"] = len(FIELDS)
    head["page_size"] = page_bytes
    head["num_samples"] = num_samples
    head["alloc_table_ptr"] = table_start
    descriptions = np.zeros(len(FIELDS), FieldDescType)
    for number, (name, field) in enumerate(FIELDS.items()):
        descriptions[number]["type_id"] = _TYPE_IDS[type(field)]
        descriptions[number]["name"][: len(name)] = np.frombuffer(name.encode(), np.uint8)
        descriptions[number]["arguments"] = field.to_binary()
    return bytes(head.tobytes() + descriptions.tobytes())


def tables(rows: NDArray[np.void], first: int, lengths_bytes: int) -> tuple[bytes, bytes, bytes]:
    """The bytes in metadata, index and allocation table for consecutive samples from number `first` on.

    rows: (n,) SAMPLE_TYPE; lengths_bytes: bytes of the tile lengths of all samples before these.
    """
    metadata = np.zeros(len(rows), METADATA_TYPE)
    assert METADATA_TYPE.names is not None
    image_column, label_column = METADATA_TYPE.names
    for name in ("mode", "width", "height"):
        metadata[image_column][name] = rows[name]
    metadata[image_column]["data_ptr"] = rows["offset"]
    metadata[label_column] = rows["label"]
    index = np.zeros(len(rows), INDEX_TYPE)
    for name in ("num_tiles", "interval", "header_bytes", "mcu_width", "mcu_height", "length_bytes"):
        index[name] = rows[name]
    num_bytes = rows["num_tiles"].astype(np.int64) * rows["length_bytes"]
    index["lengths_start"] = lengths_bytes + np.cumsum(num_bytes) - num_bytes
    index["digest"] = np.frombuffer(rows["digest"].tobytes(), "V8")[:: 32 // 8]
    table = np.zeros(len(rows), ALLOC_TABLE_TYPE)
    table["sample_id"] = np.arange(first, first + len(rows))
    table["ptr"], table["size"] = rows["offset"], rows["size"]
    return metadata.tobytes(), index.tobytes(), table.tobytes()


def trailer(num_samples: int, data_end: int, index_start: int, lengths_start: int, lengths_end: int) -> bytes:
    """Our trailer, which ends at the start of the allocation table."""
    content = np.zeros(1, TRAILER_TYPE)
    content["magic"], content["version"] = MAGIC, TRAILER_VERSION
    content["num_samples"], content["data_end"] = num_samples, data_end
    content["index_start"], content["lengths_start"], content["lengths_end"] = index_start, lengths_start, lengths_end
    body = content.tobytes()[:-8]
    return body + hashlib.sha256(body).digest()[:8]


@dataclass(frozen=True, eq=False)
class Tiling:
    """Where the restart intervals of a stored JPEG lie.

    mcu_width, mcu_height: in pixels; interval: in MCUs; header_bytes: bytes before the first entropy-coded one; lengths:
    (num_tiles,) bytes of each interval with the marker that follows it, so that cumulative sums are offsets.
    """

    mcu_width: int
    mcu_height: int
    interval: int
    header_bytes: int
    lengths: NDArray[np.uint32]


def tile_lengths(tiling: Tiling | None) -> tuple[bytes, int]:
    """The lengths of the tiles as stored in the index, and the bytes of each: 2, or 4 if one is 64 KiB or more."""
    if tiling is None:
        return b"", 0
    length_bytes = 2 if int(tiling.lengths.max()) < 1 << 16 else 4
    return tiling.lengths.astype(f"<u{length_bytes}").tobytes(), length_bytes


def sample_digest(row: np.void | NDArray[np.void], lengths: bytes, stored: bytes | memoryview) -> bytes:
    """SHA-256 of everything that a beton stores of a sample except its position. row: a SAMPLE_TYPE, or its FACTS_TYPE."""
    digest = hashlib.sha256(row.tobytes()[: FACTS_TYPE.itemsize])
    digest.update(lengths)
    digest.update(stored)
    return digest.digest()
