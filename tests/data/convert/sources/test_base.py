"""A subset has from each class its share; parts cover a source in order and keep to blocks; names survive."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from deit_fast.config import SourceConfig, UserError
from deit_fast.data.convert.sources import open_source
from deit_fast.data.convert.sources.base import (
    MAX_SAMPLES_PER_PART,
    SAMPLES_PER_PART,
    Names,
    Source,
    Subset,
)
from deit_fast.data.format.subset import stratified
from tests.data.image_folders import make_images


class Numbers(Source):
    """So many empty images, in blocks of these sizes."""

    def __init__(self, num_samples: int, blocks: list[int] | None = None) -> None:
        self.location, self.classes = "numbers", ("a",)
        self.labels = np.zeros(num_samples, dtype=np.int32)
        self._blocks = blocks

    def name(self, sample: int) -> str:
        return str(sample)

    def read(self, sample: int) -> bytes:
        return b""

    def block_starts(self) -> NDArray[np.int64] | None:
        return None if self._blocks is None else np.cumsum([0, *self._blocks[:-1]])


@given(st.lists(st.integers(0, 5), min_size=1, max_size=80), st.data(), st.integers(0, 2**63 - 1))
@pytest.mark.slow
def test_a_subset_has_from_each_class_its_share(labels: list[int], data: st.DataObject, seed: int) -> None:
    array = np.array(labels, dtype=np.int32)
    count = data.draw(st.integers(1, len(labels)))
    chosen = stratified(array, 6, count, seed)
    assert len(chosen) == count
    assert (np.diff(chosen) > 0).all()  # sorted, and none twice
    assert set(chosen.tolist()) <= set(range(len(labels)))
    exact = np.bincount(array, minlength=6) * count / len(labels)
    assert (np.abs(np.bincount(array[chosen], minlength=6) - exact) < 1).all()
    np.testing.assert_array_equal(chosen, stratified(array, 6, count, seed))


def test_another_seed_chooses_others() -> None:
    labels = np.repeat(np.arange(3, dtype=np.int32), 100)
    chosen = [stratified(labels, 3, 30, seed).tolist() for seed in range(20)]
    assert len({tuple(samples) for samples in chosen}) == 20
    assert len({sample for samples in chosen for sample in samples}) > 200


@given(st.integers(1, 2000))
def test_parts_without_blocks_are_of_one_size(num_samples: int) -> None:
    starts = Numbers(num_samples).part_starts()
    sizes = np.diff([*starts, num_samples])
    assert (sizes[:-1] == SAMPLES_PER_PART).all()
    assert 0 < sizes[-1] <= SAMPLES_PER_PART


@given(st.lists(st.integers(1, 1500), min_size=1, max_size=30))
def test_parts_are_whole_blocks_and_never_too_large(blocks: list[int]) -> None:
    source = Numbers(sum(blocks), blocks)
    starts = source.part_starts().tolist()
    ends = [*starts[1:], source.num_samples]
    assert starts[0] == 0
    assert all(0 < end - start <= MAX_SAMPLES_PER_PART for start, end in zip(starts, ends, strict=True))
    block_starts = source.block_starts()
    assert block_starts is not None
    for start, end in zip(starts, ends, strict=True):  # what is not cut at a block is as large as a part may be
        assert end in (*block_starts, source.num_samples) or end - start == MAX_SAMPLES_PER_PART
        assert end == source.num_samples or end - start >= SAMPLES_PER_PART or start not in block_starts


@given(st.lists(st.integers(1, 200), min_size=1, max_size=20), st.data())
@pytest.mark.slow
def test_the_blocks_of_a_subset_are_those_of_its_source(blocks: list[int], data: st.DataObject) -> None:
    source = Numbers(sum(blocks), blocks)
    chosen = np.array(sorted(data.draw(st.sets(st.integers(0, sum(blocks) - 1), min_size=1, max_size=50))))
    starts = Subset(source, chosen).block_starts()
    block = np.repeat(np.arange(len(blocks)), blocks)[chosen]
    assert starts is not None
    assert starts.tolist() == np.flatnonzero(np.diff(block, prepend=-1)).tolist()


@given(st.lists(st.one_of(st.text(st.characters(codec="utf-8")), st.binary().map(os.fsdecode))))
@pytest.mark.slow
def test_names_come_back(names: list[str]) -> None:
    packed = Names(names)
    assert [packed[number] for number in range(len(packed))] == names


def test_a_subset_of_a_source_is_some_of_its_images(tmp_path: Path) -> None:
    root = str(make_images(tmp_path / "images", {"cat": 8, "dog": 4}))
    whole, part = open_source(SourceConfig(path=root)), open_source(SourceConfig(path=root, subset=6, seed=3))
    assert part.labels.tolist() == [0, 0, 0, 0, 1, 1]
    read = {whole.name(n): whole.read(n) for n in range(12)}
    assert all(read[part.name(n)] == part.read(n) for n in range(6))
    assert part.digest() != whole.digest()
    with pytest.raises(UserError, match=r"source\.subset=13: want at most 12"):
        open_source(SourceConfig(path=root, subset=13))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (SourceConfig(), r"source\.path is not set"),
        (
            SourceConfig(path="x", kind="cifar10", split="trainval"),
            r"source\.split=trainval: source\.kind=cifar10 does not use it; want train, val or test",
        ),
        (SourceConfig(path="x", split="val"), r"source\.split=val: source\.kind=folder does not use it; give .*x/val$"),
        (SourceConfig(path="x", label_column="y"), r"source\.label_column=y: source\.kind=folder does not use it"),
        (SourceConfig(path="x", kind="webdataset", image_column="y"), r"source\.image_column=y: .*webdataset does not use it"),
    ],
)
def test_options_that_cannot_be_are_named(config: SourceConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_source(config)
