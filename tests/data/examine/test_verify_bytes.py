"""Whatever byte of a beton changes or is lost, it no longer passes, and the sample is named."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from ffcv.types import ALLOC_TABLE_TYPE, HeaderType

from deit_fast.config import UserError
from deit_fast.data.format import layout
from deit_fast.data.format.beton import manifest_path, open_beton
from deit_fast.data.format.index import metadata_end, read_index
from tests.data.examine.verified import check, copy
from tests.scale import SCALE


def owners(path: Path) -> list[int | None]:
    """The sample that each byte of a beton of ours belongs to."""
    beton = open_beton(path)
    index = read_index(beton)
    assert index is not None
    owner: list[int | None] = [None] * path.stat().st_size
    num_samples = beton.num_samples
    end = metadata_end(num_samples)
    index_start = layout.aligned(index.data_end, layout.ALIGNMENT)
    lengths_start = index_start + num_samples * layout.INDEX_TYPE.itemsize
    table_start = int(np.fromfile(path, HeaderType, 1)["alloc_table_ptr"][0])
    for sample in range(num_samples):
        row = index.rows[sample]
        length_bytes = int(row["num_tiles"]) * int(row["length_bytes"])
        places = [
            (end - (num_samples - sample) * layout.METADATA_TYPE.itemsize, layout.METADATA_TYPE.itemsize),
            (int(beton.offsets[sample]), int(beton.sizes[sample])),
            (index_start + sample * layout.INDEX_TYPE.itemsize, layout.INDEX_TYPE.itemsize),
            (lengths_start + int(row["lengths_start"]), length_bytes),
            (table_start + sample * ALLOC_TABLE_TYPE.itemsize, ALLOC_TABLE_TYPE.itemsize),
        ]
        for start, size in places:
            owner[start : start + size] = [sample] * size
    return owner


def flip_each(path: Path, places: list[int], masks: tuple[int, ...], owner: list[int | None]) -> None:
    """Changes one byte after another, wants each change to be found and its sample to be named, and no other."""
    for place in places:
        for mask in masks:
            with path.open("r+b") as file:
                file.seek(place)
                byte = file.read(1)[0]
                file.seek(place)
                file.write(bytes([byte ^ mask]))
                file.flush()
                try:
                    found = check(path)
                except UserError as error:
                    found = [(None, str(error))]
                file.seek(place)
                file.write(bytes([byte]))
            where = f"byte {place} ^ {mask}, of sample {owner[place]}: {found}"
            assert found, where
            if owner[place] is not None:
                named = {sample for sample, _ in found if sample is not None}
                named |= {
                    int(number) for sample, what in found if sample is None for number in re.findall(r"sample (\d+)", what)
                }
                assert named == {owner[place]}, where
    assert not check(path)


def test_a_changed_byte_is_found_and_its_sample_named(tiny: Path, tmp_path: Path) -> None:
    path, owner = copy(tiny, tmp_path), owners(tiny)
    metadata = metadata_end(12)
    table = np.fromfile(path, HeaderType, 1)["alloc_table_ptr"][0]
    places = [*range(0, metadata - 384, 89), *range(metadata - 384, metadata, 7), *range(metadata, len(owner), 83)]
    flip_each(path, [*places, *range(int(table) - 64, len(owner), 13)], (255,), owner)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("with_manifest", "share"), [(True, 1.0), (False, 0.2)])
def test_any_changed_byte_is_found_and_its_sample_named(tiny: Path, tmp_path: Path, with_manifest: bool, share: float) -> None:
    """With a manifest every byte, without one every fifth, each in one of its bits; a share of these in a usual run.

    All of them were found, with their samples.
    """
    path, owner = copy(tiny, tmp_path, with_manifest), owners(tiny)
    step = max(1, round(1 / (share * min(SCALE, 1.0))))
    for bit in range(8):
        flip_each(path, list(range(bit * step, len(owner), 8 * step)), (1 << bit,), owner)


def test_truncation_at_any_length_is_refused(tiny: Path, stock: Path, tmp_path: Path) -> None:
    for beton in (tiny, stock):
        path = copy(beton, tmp_path, beton is tiny)
        size = path.stat().st_size
        lengths = {*range(0, size, max(1, size // 300)), *range(max(0, size - 700), size)}
        lengths |= {int(place) + by for place in open_beton(beton).offsets for by in (-1, 0, 1)}
        with path.open("r+b") as file:
            for length in sorted(lengths, reverse=True):
                file.truncate(length)
                for opens in (open_beton, check):
                    with pytest.raises(UserError, match=r"truncated|not a beton") as error:
                        opens(path)
                    assert "\n" not in str(error.value)


def test_a_lost_index_is_missed(tiny: Path, tmp_path: Path) -> None:
    path = copy(tiny, tmp_path)
    start = int(np.fromfile(path, HeaderType, 1)["alloc_table_ptr"][0]) - layout.TRAILER_TYPE.itemsize
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(layout.TRAILER_TYPE.itemsize))
    assert check(path) == [(None, "the beton has no index, and its manifest says that it had one")]
    manifest_path(path).unlink()
    assert any("is not zero" in what for _, what in check(path))


def test_damage_in_a_beton_of_stock_ffcv_is_named(stock: Path, tmp_path: Path) -> None:
    beton = open_beton(stock)
    table_start = int(np.fromfile(stock, HeaderType, 1)["alloc_table_ptr"][0])
    offset = int(beton.offsets[2])
    for place, sample, message in (
        (offset + 1, 2, "does not decode"),
        (table_start - 1, None, "between the image of sample 5 and the allocation table, is not zero"),
        (100, None, "byte 100, in the descriptions of the fields"),
        (metadata_end(2) + layout.METADATA_TYPE.fields["f1"][1] - 1, 2, "bytes that are not zero"),
        (table_start + 2 * ALLOC_TABLE_TYPE.itemsize, 2, "under sample"),
    ):
        path = copy(stock, tmp_path, with_manifest=False)
        with path.open("r+b") as file:
            file.seek(place)
            byte = file.read(1)[0]
            file.seek(place)
            file.write(bytes([byte ^ 255]))
        ((named, what),) = check(path)
        assert named == sample
        assert message in what
