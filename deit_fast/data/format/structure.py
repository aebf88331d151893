"""Checks the structure of an opened beton against the layout that its writer uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ffcv.types import ALLOC_TABLE_TYPE, FieldDescType, HeaderType
from numpy.typing import NDArray

from deit_fast.data.format import layout
from deit_fast.data.format.beton import Beton
from deit_fast.data.format.index import Index, metadata_end, sample_rows

_ROWS_AT_ONCE = 1 << 16


class Problem(NamedTuple):
    """What is wrong with a sample, or with the whole beton if `sample` is None."""

    sample: int | None
    what: str


class Region(NamedTuple):
    """Bytes of the file from start up to end that must be zero, and a description of what lies around them.

    `sample`: the sample whose image ends at the region's start, None if none does.
    """

    start: int
    end: int
    where: str
    sample: int | None


def structure_problems(beton: Beton, index: Index | None, manifest: dict[str, Any] | None, is_ours: bool) -> Iterator[Problem]:
    """Finds problems in header, metadata, index and allocation table, and in the positions of the images.

    If we wrote the beton (is_ours), every byte of these is compared with what layout would write, as far as its index can be
    read; for stock FFCV's betons only what its writer does for any images.
    """
    table_start, page_bytes, table = _table(beton.path)
    if beton.field_names == tuple(layout.FIELDS):
        yield from _header_problems(beton, page_bytes, table_start, is_ours)
        yield from _row_problems(beton, index, table, is_ours)
    if not is_ours:
        yield from _stock_problems(beton, page_bytes, table_start, table)
    yield from _place_problems(beton, page_bytes, table)
    if index is not None:
        yield from _index_problems(beton, index, table_start, manifest)


def regions_of_zeros(beton: Beton, index: Index | None) -> list[Region]:
    """The regions between metadata, images, index and allocation table.

    None for a beton with fields whose data lie among the images: FFCV's writer leaves discarded data there.
    """
    table_start, _, _ = _table(beton.path)
    if beton.field_names != tuple(layout.FIELDS):
        return []
    start = metadata_end(beton.num_samples)
    order = np.argsort(beton.offsets, kind="stable")
    offsets = beton.offsets[order].astype(np.int64)
    starts = np.append(offsets, table_start)
    ends = np.append(start, offsets + beton.sizes[order].astype(np.int64))
    if index is not None:
        starts[-1] = layout.aligned(index.data_end, layout.ALIGNMENT)
    regions = []
    for gap in np.flatnonzero(starts > ends).tolist():
        sample = None if gap == 0 else int(order[gap - 1])
        before = "the metadata" if sample is None else f"the image of sample {sample}"
        behind = "the index" if index is not None else "the allocation table"
        after = behind if gap == len(order) else f"the image of sample {int(order[gap])}"
        regions.append(Region(int(ends[gap]), int(starts[gap]), f"{before} and {after}", sample))
    if index is not None:
        end = table_start - layout.TRAILER_TYPE.itemsize
        regions.append(Region(index.lengths_end, end, "the index and its trailer", None))
    return regions


def _table(path: Path) -> tuple[int, int, NDArray[np.void]]:
    """The start of the allocation table, the size of a page, and the table (rows,) ALLOC_TABLE_TYPE."""
    header = np.fromfile(path, HeaderType, 1)[0]
    table_start = int(header["alloc_table_ptr"])
    return table_start, int(header["page_size"]), np.memmap(path, ALLOC_TABLE_TYPE, "r", table_start)


def _header_problems(beton: Beton, page_bytes: int, table_start: int, is_ours: bool) -> Iterator[Problem]:
    wanted_page = layout.enclosing_page(int(beton.sizes.max()))
    if is_ours and page_bytes != wanted_page:
        yield Problem(None, f"the header says pages of {page_bytes:,} bytes, want {wanted_page:,}")
    wanted = layout.header(beton.num_samples, page_bytes, table_start)
    with beton.path.open("rb") as file:
        found = file.read(len(wanted))
    differing = np.flatnonzero(np.frombuffer(found, np.uint8) != np.frombuffer(wanted, np.uint8))
    if differing.size:
        yield Problem(None, f"byte {differing[0]}, in the descriptions of the fields, is not what it must be")


def _stock_problems(beton: Beton, page_bytes: int, table_start: int, table: NDArray[np.void]) -> Iterator[Problem]:
    """Finds what FFCV's writer never does: a table that does not start at a page's end, an image under another sample."""
    if table_start % page_bytes:
        yield Problem(None, f"the allocation table starts at {table_start:,}, want the end of a page of {page_bytes:,} bytes")
    order = np.argsort(table["ptr"], kind="stable")
    owners = table["sample_id"][order][np.searchsorted(table["ptr"][order], beton.offsets)]
    for sample in np.flatnonzero(owners != np.arange(beton.num_samples)).tolist():
        yield Problem(sample, f"the allocation table has its image under sample {owners[sample]}")


def _row_problems(beton: Beton, index: Index | None, table: NDArray[np.void], is_ours: bool) -> Iterator[Problem]:
    """Finds rows of metadata and allocation table whose bytes differ from what layout writes for such a sample."""
    start = HeaderType.itemsize + len(layout.FIELDS) * FieldDescType.itemsize
    metadata = np.memmap(beton.path, layout.METADATA_TYPE, "r", start, (beton.num_samples,))
    for first in range(0, beton.num_samples, _ROWS_AT_ONCE):
        end = min(first + _ROWS_AT_ONCE, beton.num_samples)
        wanted_metadata, _, wanted_table = layout.tables(sample_rows(beton, index, first, end), first, 0)
        for sample in _differing(metadata[first:end], wanted_metadata):
            yield Problem(first + sample, "its metadata have bytes that are not zero where nothing is stored")
        if is_ours:
            for sample in _differing(table[first:end], wanted_table):
                yield Problem(first + sample, "its row in the allocation table is not what its metadata want")


def _differing(rows: NDArray[np.void], wanted: bytes) -> list[int]:
    shape = (len(rows), rows.dtype.itemsize)
    found = np.frombuffer(rows.tobytes(), np.uint8).reshape(shape)
    return np.flatnonzero((found != np.frombuffer(wanted, np.uint8).reshape(shape)).any(axis=1)).tolist()


def _place_problems(beton: Beton, page_bytes: int, table: NDArray[np.void]) -> Iterator[Problem]:
    """Finds images that cross a page, and overlaps."""
    offsets, sizes = beton.offsets.astype(np.int64), beton.sizes.astype(np.int64)
    crosses = offsets // page_bytes != (offsets + sizes - 1) // page_bytes
    for sample in np.flatnonzero(crosses).tolist():
        yield Problem(sample, f"its image crosses the end of a page of {page_bytes:,} bytes")
    order = np.argsort(table["ptr"], kind="stable")
    starts = table["ptr"][order].astype(np.int64)
    overlaps = np.flatnonzero(starts[:-1] + table["size"][order][:-1].astype(np.int64) > starts[1:])
    for row, next_row in zip(order[overlaps].tolist(), order[overlaps + 1].tolist(), strict=True):
        owner, other = int(table["sample_id"][row]), int(table["sample_id"][next_row])
        known = owner if owner < beton.num_samples else None
        yield Problem(known, f"what is stored of sample {owner} overlaps with what is stored of sample {other}")


def _index_problems(beton: Beton, index: Index, table_start: int, manifest: dict[str, Any] | None) -> Iterator[Problem]:
    num_samples = beton.num_samples
    for sample in np.flatnonzero(index.rows["reserved"]).tolist():
        yield Problem(sample, "its row in the index has bytes that are not zero where nothing is stored")

    starts = index.rows["lengths_start"].astype(np.int64)
    num_bytes = index.rows["num_tiles"].astype(np.int64) * index.rows["length_bytes"]
    wanted = np.append(0, starts + num_bytes)
    for sample in _blamed(np.append(starts, len(index.lengths)) != wanted):
        yield Problem(sample, "its tile lengths do not lie in the index where its row says")

    order = np.argsort(beton.offsets, kind="stable")
    offsets, sizes = beton.offsets[order].astype(np.int64), beton.sizes[order].astype(np.int64)
    wanted = np.append(_first_offset(beton, manifest), offsets + sizes)
    wanted[:-1] = _places(wanted[:-1], sizes)
    for place in _blamed(np.append(offsets, index.data_end) != wanted):
        yield Problem(int(order[place]), "its image does not lie where the images before it and its size put it")

    index_start = layout.aligned(index.data_end, layout.ALIGNMENT)
    lengths_start = index_start + num_samples * layout.INDEX_TYPE.itemsize
    lengths_end = lengths_start + len(index.lengths)
    trailer = layout.trailer(num_samples, index.data_end, index_start, lengths_start, lengths_end)
    with beton.path.open("rb") as file:
        file.seek(table_start - len(trailer))
        if file.read(len(trailer)) != trailer or table_start - len(trailer) != layout.aligned(lengths_end, 8):
            yield Problem(None, "the index does not lie where the images before it put it")


def _first_offset(beton: Beton, manifest: dict[str, Any] | None) -> int:
    """File offset from which images may lie; skipped samples leave room in the metadata."""
    skipped = (manifest or {}).get("num_odd")
    if isinstance(skipped, dict) and isinstance(skipped.get("skipped"), int):
        return layout.data_start(beton.num_samples + skipped["skipped"])
    return int(beton.offsets.min())


def _places(ends: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """layout.place for each image by itself (n,): where an image of that size goes after what ends at `ends`."""
    pages = np.array([layout.enclosing_page(size) for size in sizes.tolist()], np.int64)
    crosses = ends // pages != (ends + sizes - 1) // pages
    return np.where(crosses, -(-ends // pages) * pages, ends)


def _blamed(broken: NDArray[np.bool_]) -> list[int]:
    """Samples to blame for broken seams. broken (n + 1,): seam i lies before sample i, the last one after all samples.

    A changed start breaks the seams before and after its sample, a changed size only the one after it.
    """
    blamed = []
    seam, num_samples = 0, len(broken) - 1
    while seam <= num_samples:
        if broken[seam] and seam < num_samples and (broken[seam + 1] or seam == 0):
            blamed.append(seam)
            seam += 1
        elif broken[seam]:
            blamed.append(seam - 1)
        seam += 1
    return blamed
