"""Hashes of whole epochs of DeiT's recipe: for any number of threads, ranks, and after resuming at any step."""

import dataclasses
import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from deit_fast.config import AugmentConfig, DataConfig
from deit_fast.data.format.beton import open_beton
from deit_fast.data.load.loader import Loader, train_loader
from deit_fast.data.load.views import CpuViews
from tests.data.image_folders import convert, make_images

RECIPE = AugmentConfig()
UNMIXED = AugmentConfig(mixup=None, cutmix=None)  # mixing draws partners within a rank, so it depends on their number
EPOCH = 2


@pytest.fixture(scope="module")
def beton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    out = folder / "set.beton"
    convert(make_images(folder / "images", {"ant": 40, "bee": 30, "cow": 30}, height=90, width=140), out)
    return out


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of several tiles, large enough to be scaled down in decoding."""
    folder = tmp_path_factory.mktemp("large")
    out = folder / "set.beton"
    convert(make_images(folder / "images", {"ant": 50, "bee": 50}, height=220, width=330), out)
    return out


def _loader(
    path: Path, augment: AugmentConfig, *, num_workers: int = 2, rank: int = 0, world_size: int = 1, **data: Any
) -> Loader:
    config = DataConfig(train=str(path), resolution=48, batch_size=16 // world_size, num_workers=num_workers, **data)
    loader = train_loader(config, augment, seed=7, rank=rank, world_size=world_size, device=torch.device("cpu"))
    loader.set_epoch(EPOCH)
    return loader


def _batch_hashes(loader: Loader) -> list[str]:
    hashes = []
    for batch in loader:
        digest = hashlib.sha256()
        for tensor in (batch.images, batch.targets, batch.samples, batch.views):
            digest.update(tensor.contiguous().numpy().tobytes())
        hashes.append(digest.hexdigest())
    return hashes


def epoch_hash(path: str, num_workers: int) -> str:
    """Of all that an epoch of the recipe gives, in order."""
    return hashlib.sha256("".join(_batch_hashes(_loader(Path(path), RECIPE, num_workers=num_workers))).encode()).hexdigest()


@pytest.mark.slow
def test_any_number_of_threads(beton: Path) -> None:
    code = f"from tests.data.load.test_reproducible import epoch_hash; print(epoch_hash({str(beton)!r}, 4))"
    env = {**os.environ, "NUMBA_NUM_THREADS": "4"}
    with_four = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert with_four.stdout.strip() == epoch_hash(str(beton), 1) == epoch_hash(str(beton), 2)


def _epoch_views(path: Path, augment: AugmentConfig, world_size: int, **data: Any) -> dict[tuple[int, int], str]:
    """Hashes of an epoch's images, by sample and view."""
    views = {}
    for rank in range(world_size):
        for batch in _loader(path, augment, rank=rank, world_size=world_size, **data):
            for sample, view, image in zip(batch.samples.tolist(), batch.views.tolist(), batch.images, strict=True):
                views[sample, view] = hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()
    return views


@pytest.mark.parametrize(
    ("augment", "data"),
    [
        (UNMIXED, {}),
        (UNMIXED, {"order": "pages", "window_gb": 0.001}),
        (dataclasses.replace(UNMIXED, crop="simple", auto_augment="3a", color_jitter=0.3), {"subset": 64}),
        # copies in a batch are decoded together, but what one is scaled by must not depend on the others
        (dataclasses.replace(UNMIXED, crop_scale=(0.3, 1.0)), {"dct_scaling": True}),
    ],
)
def test_any_number_of_ranks(large: Path, augment: AugmentConfig, data: dict[str, Any]) -> None:
    alone = _epoch_views(large, augment, 1, **data)
    assert len(alone) >= 64
    assert alone == _epoch_views(large, augment, 2, **data) == _epoch_views(large, augment, 8, **data)


def test_damage_is_found_whichever_copies_are_decoded_together(large: Path, tmp_path: Path) -> None:
    beton = open_beton(large)
    content = bytearray(large.read_bytes())
    for start, size in zip(beton.offsets.tolist(), beton.sizes.tolist(), strict=True):
        content[start + size - 40 : start + size - 20] = bytes(20)  # in the last tile
    damaged = tmp_path / "damaged.beton"
    damaged.write_bytes(content)
    small = dataclasses.replace(UNMIXED, crop_scale=(0.1, 0.9))
    found = []
    for world_size in (1, 8):
        loaders = [_loader(damaged, small, rank=rank, world_size=world_size) for rank in range(world_size)]
        of_views = {}
        for loader in loaders:
            views = loader.views()
            assert isinstance(views, CpuViews)
            for ids in loader.order.batches(EPOCH):
                work = views.begin(ids)
                for step in (views.locate, views.plan, views.decode):
                    step(work)
                of_views.update({int(view_id): bool(status) for view_id, status in zip(ids, work.statuses, strict=True)})
        found.append(of_views)
    assert found[0] == found[1]
    assert 0 < sum(found[0].values()) < len(found[0])


def test_resuming_at_any_step(beton: Path) -> None:
    loader = _loader(beton, RECIPE)
    whole = _batch_hashes(loader)
    assert len(set(whole)) == 6
    for first_step in range(7):
        loader.set_epoch(EPOCH, first_step)
        assert _batch_hashes(loader) == whole[first_step:]
