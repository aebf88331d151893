"""Betons of very many samples that are links to few images, for tests of what grows with the number of samples."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from ffcv.reader import Reader
from ffcv.types import FieldDescType, HeaderType

from deit_fast.data.format import layout
from deit_fast.data.format.beton import open_beton
from deit_fast.data.format.index import read_index


def make_linked(beton_path: Path, out: Path, num_samples: int) -> None:
    """Writes a beton of num_samples entries whose images are those of another, over and over; the index likewise."""
    beton = open_beton(beton_path)
    index = read_index(beton)
    assert index is not None
    reader = Reader(str(beton_path))
    times = -(-num_samples // beton.num_samples)
    head = HeaderType.itemsize + len(layout.FIELDS) * FieldDescType.itemsize
    metadata = np.tile(reader.metadata, times)[:num_samples]
    table = np.tile(reader.alloc_table, times)[:num_samples]
    table["sample_id"] = np.arange(num_samples)
    rows = np.tile(np.array(index.rows), times)[:num_samples]
    first = int(beton.offsets.min())
    shift = layout.data_start(num_samples) - first
    metadata["f0"]["data_ptr"] += np.uint64(shift)
    table["ptr"] += np.uint64(shift)
    content = beton_path.read_bytes()
    index_start = layout.aligned(index.data_end + shift, layout.ALIGNMENT)
    lengths_start = index_start + rows.nbytes
    lengths_end = lengths_start + len(index.lengths)
    table_start = lengths_end + layout.TRAILER_TYPE.itemsize
    with out.open("wb") as file:
        file.write(layout.header(num_samples, 8 << 20, table_start))
        file.seek(head)
        file.write(metadata.tobytes())
        file.seek(first + shift)
        file.write(content[first : index.data_end])
        file.seek(index_start)
        file.write(rows.tobytes())
        file.write(np.array(index.lengths).tobytes())
        file.write(layout.trailer(num_samples, index.data_end + shift, index_start, lengths_start, lengths_end))
        file.write(table.tobytes())
    manifest = out.with_name(f"{out.name}.json")
    shutil.copy(beton_path.with_name(f"{beton_path.name}.json"), manifest)
    manifest.write_text(manifest.read_text().replace(f'"num_samples": {beton.num_samples}', f'"num_samples": {num_samples}'))
