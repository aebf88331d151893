"""Compares a copied beton with the hashes in its manifest, and finds where the tables of one lie that is not copied yet."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from ffcv.types import HeaderType

from deit_fast.config import UserError
from deit_fast.cores import num_cores
from deit_fast.data.format import layout
from deit_fast.data.format.beton import Beton, open_beton, read_manifest
from deit_fast.data.format.files import read_at
from deit_fast.data.format.index import Index, metadata_end, read_index, sample_rows, structure_digest
from deit_fast.data.format.manifest import SAMPLES_PER_BLOCK

_BLOCKS_AT_ONCE = 64


def difference(path: Path) -> str:
    """What a beton has that its manifest's hashes do not allow, in words; empty if nothing.

    Without hashes, of stock FFCV's betons, only the structure is looked at.
    """
    try:
        beton = open_beton(path)
        index, manifest = read_index(beton), read_manifest(path)
    except UserError as error:
        return str(error)
    digests = (manifest or {}).get("digests")
    if not isinstance(digests, dict):
        return ""
    if index is None:
        return "it has no index, and its manifest says that it has one"
    if structure_digest(path, beton.num_samples, index.data_end) != digests.get("structure"):
        return "all but its images is not what was written: the hash in its manifest differs"
    return _block_difference(beton, index, digests.get("blocks"))


def _block_difference(beton: Beton, index: Index, wanted: object) -> str:
    starts = range(0, beton.num_samples, SAMPLES_PER_BLOCK)
    if not isinstance(wanted, list) or len(wanted) != len(starts):
        return f"its manifest has not the hashes of {len(starts)} blocks of samples"
    with beton.path.open("rb", buffering=0) as file, ThreadPoolExecutor(num_cores()) as threads:
        # a few at a time: the interpreter does not end before all that was handed to such threads is done
        for some in range(0, len(starts), _BLOCKS_AT_ONCE):
            firsts = starts[some : some + _BLOCKS_AT_ONCE]
            found = threads.map(lambda first: _block_digest(beton, index, file.fileno(), first), firsts)
            for first, said, digest in zip(firsts, wanted[some:], found, strict=False):
                if said != digest:
                    last = min(first + SAMPLES_PER_BLOCK, beton.num_samples) - 1
                    return f"samples {first} to {last} are not what was written: the hash in its manifest differs"
    return ""


def _block_digest(beton: Beton, index: Index, file: int, first: int) -> str:
    block = hashlib.sha256()
    end = min(first + SAMPLES_PER_BLOCK, beton.num_samples)
    for sample, row in zip(range(first, end), sample_rows(beton, index, first, end), strict=True):
        stored = read_at(file, int(beton.sizes[sample]), int(beton.offsets[sample]))
        block.update(layout.sample_digest(row, index.length_bytes(sample), stored))
    return block.hexdigest()


def header_ranges(path: Path, num_bytes: int) -> list[tuple[int, int]]:
    """From the header, which is there, the ranges that hold the metadata and our trailer; none if it is no header of ours."""
    header = np.fromfile(path, HeaderType, 1)[0]
    metadata, table_start = metadata_end(int(header["num_samples"])), int(header["alloc_table_ptr"])
    trailer_start = table_start - layout.TRAILER_TYPE.itemsize
    if not metadata <= trailer_start <= num_bytes:
        return []
    return [(0, metadata), (trailer_start, num_bytes)]


def index_range(path: Path, num_bytes: int) -> tuple[int, int] | None:
    """The range from our index to the end, from the trailer, if there is one; None if it is not there, or not ours."""
    table_start = int(np.fromfile(path, HeaderType, 1)[0]["alloc_table_ptr"])
    if not layout.TRAILER_TYPE.itemsize <= table_start <= num_bytes:
        return None
    trailer = np.fromfile(path, layout.TRAILER_TYPE, 1, offset=table_start - layout.TRAILER_TYPE.itemsize)[0]
    if trailer["magic"] != layout.MAGIC or not int(trailer["data_end"]) <= num_bytes:
        return None
    return int(trailer["data_end"]), num_bytes
