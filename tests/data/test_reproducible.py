"""Hashes of whole epochs of DeiT's recipe: for any number of threads, ranks, and after resuming at any step."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deit_fast.config import AugmentConfig, DataConfig
from deit_fast.data.loader import Loader, train_loader
from tests.data.image_folders import convert, make_images

RECIPE = AugmentConfig()
UNMIXED = AugmentConfig(mixup=0, cutmix=0)  # mixing draws partners within a rank, so it depends on their number
EPOCH = 2


@pytest.fixture(scope="module")
def beton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    out = folder / "set.beton"
    convert(make_images(folder / "images", {"ant": 40, "bee": 30, "cow": 30}, height=90, width=140), out)
    return out


def _loader(path: Path, augment: AugmentConfig, *, num_workers: int = 2, rank: int = 0, world_size: int = 1) -> Loader:
    config = DataConfig(train=str(path), resolution=48, batch_size=16 // world_size, num_workers=num_workers)
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


def test_any_number_of_threads(beton: Path) -> None:
    code = f"from tests.data.test_reproducible import epoch_hash; print(epoch_hash({str(beton)!r}, 4))"
    env = {**os.environ, "NUMBA_NUM_THREADS": "4"}
    with_four = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert with_four.stdout.strip() == epoch_hash(str(beton), 1) == epoch_hash(str(beton), 2)


def test_any_number_of_ranks(beton: Path) -> None:
    def epoch_views(world_size: int) -> dict[tuple[int, int], str]:
        views = {}
        for rank in range(world_size):
            for batch in _loader(beton, UNMIXED, rank=rank, world_size=world_size):
                for sample, view, image in zip(batch.samples.tolist(), batch.views.tolist(), batch.images, strict=True):
                    views[sample, view] = hashlib.sha256(image.contiguous().numpy().tobytes()).hexdigest()
        return views

    alone = epoch_views(1)
    assert len(alone) == 96
    assert alone == epoch_views(2) == epoch_views(8)


def test_resuming_at_any_step(beton: Path) -> None:
    loader = _loader(beton, RECIPE)
    whole = _batch_hashes(loader)
    assert len(set(whole)) == 6
    for first_step in range(7):
        loader.set_epoch(EPOCH, first_step)
        assert _batch_hashes(loader) == whole[first_step:]
