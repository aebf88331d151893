"""Loading several betons as one set: the views of one beton with the same images, for any ranks, orders and steps."""

from __future__ import annotations

import copy
import hashlib
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from deit_fast.config import AugmentConfig, DataConfig, RankError, UserError
from deit_fast.data.convert.sources import base
from deit_fast.data.format import layout
from deit_fast.data.format.beton import open_beton
from deit_fast.data.format.beton_set import open_set
from deit_fast.data.load import loader as loader_module
from deit_fast.data.load.loader import Loader, eval_loader, train_loader
from deit_fast.data.load.page_order import cut_into_chunks
from tests.data.image_folders import convert, make_images, smooth_image

CPU = torch.device("cpu")
CLASSES = {"ant": 40, "bee": 30, "cow": 35}


@pytest.fixture(scope="module", autouse=True)
def _small_parts_pages_and_chunks() -> Iterator[None]:
    """So that few images have many parts, change places at the ends of pages, and make many chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(base, "SAMPLES_PER_PART", 8)
        patch.setattr(layout, "PAGE_BYTES", 1 << 14)
        patch.setattr(loader_module, "_LEAST_CHUNK_BYTES", 1 << 13)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """one.beton; its classes in a.beton and b.beton; its images in shards/, four."""
    folder = tmp_path_factory.mktemp("several")
    images = make_images(folder / "one", CLASSES)
    for number, path in enumerate(sorted(images.glob("*/*.png"))):
        if number % 3 == 0:
            Image.fromarray(smooth_image(number, 60 + number, 150 - number)).save(path)
    for part, names in (("a", ("ant", "bee")), ("b", ("cow",))):
        for name in names:
            shutil.copytree(images / name, folder / part / name)
    for part in ("one", "a", "b"):
        convert(folder / part, folder / f"{part}.beton")
    (folder / "shards").mkdir()
    convert(folder / "one", folder / "shards" / "one.beton", shards=4)
    return folder


def train(text: str, *, rank: int = 0, world_size: int = 1, augment: AugmentConfig | None = None, **data: object) -> Loader:
    options = {"train": text, "resolution": 32, "batch_size": 24 // world_size, "num_workers": 2, **data}
    config = DataConfig(**options)  # type: ignore[arg-type]
    return train_loader(config, augment or AugmentConfig(), seed=3, rank=rank, world_size=world_size, device=CPU)


def evaluate(text: str, rank: int) -> Loader:
    config = DataConfig(val=text, resolution=32, eval_batch_size=20, num_workers=1)
    return eval_loader(config, AugmentConfig(), rank=rank, world_size=2, device=CPU)


def shown(loader: Loader) -> list[str]:
    """A digest of each batch."""
    digests = []
    for batch in loader:
        digest = hashlib.sha256()
        for tensor in (batch.images, batch.targets, batch.samples, batch.views):
            digest.update(tensor.contiguous().numpy().tobytes())
        digests.append(digest.hexdigest())
    return digests


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize(
    ("names", "order"), [("[ab].beton", "random"), ("shards/*.beton", "random"), ("shards/*.beton", "pages")]
)
def test_views_are_those_of_one_beton(folder: Path, names: str, order: str, world_size: int) -> None:
    for rank in range(world_size):
        how = {"rank": rank, "world_size": world_size, "order": order, "window_gb": 1e-4}
        one, several = train(f"{folder}/one.beton", **how), train(f"{folder}/{names}", **how)  # type: ignore[arg-type]
        for loader in (one, several):
            loader.set_epoch(2)
        whole = shown(one)
        assert shown(several) == whole
        several.set_epoch(2, first_step=2)
        assert shown(several) == whole[2:]


def test_pages_of_shards_are_those_that_hold_their_images(folder: Path) -> None:
    """Chunks are those of one beton, what is read is where the shards have it."""
    one, shards = open_set(f"{folder}/one.beton", "data.train"), open_set(f"{folder}/shards/*.beton", "data.train")
    whole = cut_into_chunks(one.offsets, one.sizes, np.arange(105), 1 << 13)
    chunks = cut_into_chunks(shards.offsets, shards.sizes, np.arange(105), 1 << 13, shards.places)
    for name in ("samples", "first_samples", "num_bytes"):
        np.testing.assert_array_equal(getattr(chunks, name), getattr(whole, name))
    assert len(chunks) > 10
    assert (np.diff(whole.samples) < 0).any()  # images that have changed places
    assert (np.diff(chunks.first_ranges) > 1).any()  # a chunk in two files
    for number in range(len(chunks)):
        ranges = slice(chunks.first_ranges[number], chunks.first_ranges[number + 1])
        for sample in chunks.samples[chunks.first_samples[number] : chunks.first_samples[number + 1]]:
            start, end = int(shards.offsets[sample]), int(shards.offsets[sample] + shards.sizes[sample])
            assert ((chunks.starts[ranges] <= start) & (end <= chunks.ends[ranges])).sum() == 1
    # and no range reaches from one file into another
    starts = [stretch.start for stretch in shards.stretches]
    assert (np.searchsorted(starts, chunks.starts, "right") == np.searchsorted(starts, chunks.ends, "right")).all()


def test_a_subset_and_an_evaluation_are_those_of_one_beton(folder: Path) -> None:
    one, several = f"{folder}/one.beton", f"{folder}/a.beton,{folder}/b.beton"
    assert shown(train(several, subset=50)) == shown(train(one, subset=50))
    for rank in range(2):
        assert shown(evaluate(several, rank)) == shown(evaluate(one, rank))


def test_a_loader_of_several_is_made_anew_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    loader = train("[ab].beton")
    loader.set_epoch(1, first_step=1)
    wanted, content, copied = shown(loader), pickle.dumps(loader), copy.deepcopy(loader)
    monkeypatch.chdir("/")
    assert shown(pickle.loads(content)) == wanted
    assert shown(copied) == wanted


def test_weights_show_other_views_of_the_same_images(folder: Path) -> None:
    """Two showings of an image are samples of their own: an epoch has both, with different crops."""
    plain = AugmentConfig(repeats=1, mixup=None, cutmix=None, auto_augment="", erase=0)
    loader = train(f"{folder}/a.beton,{folder}/b.beton*3", augment=plain, batch_size=35)
    assert len(loader) == (70 + 3 * 35) // 35
    samples, views = [], {}
    for batch in loader:
        for position, sample in enumerate(batch.samples.tolist()):
            samples.append(sample)
            views[sample] = batch.images[position].clone(), batch.targets[position].clone()
    assert sorted(samples) == list(range(70 + 3 * 35))
    for sample in range(70, 70 + 35):
        first, second = views[sample], views[sample + 35]
        assert torch.equal(first[1], second[1])
        assert not torch.equal(first[0], second[0])
    with pytest.raises(UserError, match=r"data\.val=.*: has a weight"):
        eval_loader(DataConfig(val=f"{folder}/a.beton*2"), AugmentConfig(), rank=0, world_size=1, device=CPU)


def test_pages_show_each_sample_once_and_read_ahead(folder: Path) -> None:
    text = f"{folder}/a.beton*2,{folder}/b.beton"
    plain = AugmentConfig(repeats=1)
    loader = train(text, order="pages", augment=plain, batch_size=25)
    assert len(loader) == 7
    assert sorted(sample for batch in loader for sample in batch.samples.tolist()) == list(range(175))


def test_a_damaged_image_is_named_with_its_file(folder: Path, tmp_path: Path) -> None:
    beton = open_beton(folder / "b.beton")
    damaged = tmp_path / "damaged.beton"
    content = bytearray(beton.path.read_bytes())
    start, size = int(beton.offsets[7]), int(beton.sizes[7])
    content[start : start + size] = bytes(size)
    damaged.write_bytes(content)
    shutil.copy(f"{beton.path}.json", f"{damaged}.json")
    loader = train(f"{folder}/a.beton,{damaged}", batch_size=105, augment=AugmentConfig(repeats=1, mixup=None, cutmix=None))
    with pytest.raises(RankError, match=rf"sample 77, sample 7 of {damaged} \(offset {start}, {size} bytes\) does not decode"):
        next(iter(loader))
    loader = train(f"{folder}/a.beton,{damaged}", batch_size=35, augment=AugmentConfig(repeats=1), on_error="replace")
    assert len(shown(loader)) == 3
    assert loader.num_replaced == 1
