"""Reads the index of a beton that we wrote: digests, and the position of each tile."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from ffcv.types import FieldDescType, HeaderType
from numpy.typing import NDArray

from deit_fast.config import UserError
from deit_fast.data.format import layout
from deit_fast.data.format.beton import Beton
from deit_fast.data.format.mapped import map_file

_PIECE = 1 << 24


@dataclass(frozen=True, eq=False)
class Index:
    """`rows`: (num_samples,) layout.INDEX_TYPE, and all tile lengths as bytes (n,) uint8, both memory-mapped.

    `data_end`: file offset after the last image; `lengths_end`: after the last length.
    """

    rows: NDArray[np.void]
    lengths: NDArray[np.uint8]
    data_end: int
    lengths_end: int

    def length_bytes(self, sample: int) -> bytes:
        """The lengths of a sample's tiles as stored in the file; empty if it has none."""
        row = self.rows[sample]
        start = int(row["lengths_start"])
        return self.lengths[start : start + int(row["num_tiles"]) * int(row["length_bytes"])].tobytes()

    def tile_lengths(self, sample: int) -> NDArray[np.uint32]:
        """Bytes of each tile (num_tiles,) of a sample, including the marker after it; empty if it has none.

        The first tile starts header_bytes into the image; each restart interval is one tile.
        """
        length_bytes = int(self.rows[sample]["length_bytes"])
        if length_bytes == 0:
            return np.empty(0, np.uint32)
        return np.frombuffer(self.length_bytes(sample), f"<u{length_bytes}").astype(np.uint32)


class BetonFile(Protocol):
    """A beton, as far as its index tells of it."""

    @property
    def path(self) -> Path: ...

    @property
    def num_samples(self) -> int: ...


def read_index(beton: BetonFile, memory: NDArray[np.uint8] | None = None) -> Index | None:
    """The index of a beton that we wrote; None for a beton without one, such as stock FFCV's.

    memory: the file as `map_file` maps it, where the caller has it mapped already. Raises UserError if the index is damaged.
    Checks tile lengths against the file, not against the images.
    """
    path, num_samples = beton.path, beton.num_samples
    with path.open("rb") as file:
        table_start = int(np.fromfile(file, HeaderType, 1)[0]["alloc_table_ptr"])
        trailer_start = table_start - layout.TRAILER_TYPE.itemsize
        if trailer_start < 0:
            return None
        file.seek(trailer_start)
        content = file.read(layout.TRAILER_TYPE.itemsize)
    trailer = np.frombuffer(content, layout.TRAILER_TYPE)[0]
    is_marked = content.startswith(layout.MAGIC)
    is_whole = hashlib.sha256(layout.MAGIC + content[len(layout.MAGIC) : -8]).digest()[:8] == trailer["digest"].tobytes()
    if not is_marked and not is_whole:
        return None
    if not is_marked or not is_whole:
        raise UserError(f"{path}: damaged beton: the trailer of its index is not what it was; convert it again")
    version, data_end, index_start, lengths_start, lengths_end = (
        int(trailer[name]) for name in ("version", "data_end", "index_start", "lengths_start", "lengths_end")
    )
    if version != layout.TRAILER_VERSION:
        raise UserError(f"{path}: its index has version {version}, want {layout.TRAILER_VERSION}; update deit_fast")
    if int(trailer["num_samples"]) != num_samples:
        raise UserError(
            f"{path}: damaged beton: its header says {num_samples} samples, its index {int(trailer['num_samples'])}; convert "
            "it again"
        )
    # the trailer's digest is right: what does not fit now was written so, not damaged
    assert data_end <= index_start
    assert lengths_start == index_start + num_samples * layout.INDEX_TYPE.itemsize
    assert lengths_start <= lengths_end <= trailer_start
    memory = map_file(path) if memory is None else memory
    rows = memory[index_start:lengths_start].view(layout.INDEX_TYPE)
    lengths = memory[lengths_start:lengths_end]
    _check_rows(path, rows, len(lengths))
    return Index(rows, lengths, data_end, lengths_end)


def _check_rows(path: Path, rows: NDArray[np.void], num_lengths: int) -> None:
    num_bytes = rows["num_tiles"].astype(np.uint64) * rows["length_bytes"]
    fits = (rows["lengths_start"] <= num_lengths) & (num_bytes <= num_lengths)
    fits &= rows["lengths_start"] + num_bytes <= num_lengths
    fits &= np.isin(rows["length_bytes"], (0, 2, 4)) & ((rows["num_tiles"] == 0) == (rows["length_bytes"] == 0))
    if not fits.all():
        raise UserError(
            f"{path}: damaged beton: the row of sample {int(np.argmin(fits))} in its index is none that a sample can have"
        )


def sample_rows(beton: Beton, index: Index | None, first: int, end: int) -> NDArray[np.void]:
    """A beton's facts about the samples from first up to end (end - first,), as chosen_rows gives them."""
    return chosen_rows(beton, index, np.arange(first, end))


def chosen_rows(beton: Beton, index: Index | None, samples: NDArray[np.int64]) -> NDArray[np.void]:
    """A beton's facts about the samples of these numbers (n,), layout.SAMPLE_TYPE (n,).

    Unknown facts are zero: digest, is_exact, orientation, and without an index everything about tiles.
    """
    rows = np.zeros(len(samples), layout.SAMPLE_TYPE)
    columns: dict[str, NDArray[Any]] = {
        "label": beton.labels,
        "width": beton.widths,
        "height": beton.heights,
        "mode": beton.modes,
        "size": beton.sizes,
        "offset": beton.offsets,
    }
    for name, column in columns.items():
        rows[name] = column[samples]
    if index is not None:
        for name in ("mcu_width", "mcu_height", "length_bytes", "num_tiles", "interval", "header_bytes"):
            rows[name] = index.rows[name][samples]
    return rows


def metadata_end(num_samples: int) -> int:
    """File offset after the metadata."""
    return HeaderType.itemsize + len(layout.FIELDS) * FieldDescType.itemsize + num_samples * layout.METADATA_TYPE.itemsize


def structure_digest(path: Path, num_samples: int, data_end: int) -> str:
    """SHA-256, in hexadecimal, of all bytes before the first and after the last image of a beton that we wrote."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        digest.update(file.read(metadata_end(num_samples)))
        file.seek(data_end)
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()
