"""Photographs of all kinds through the device's kernels, compiled for this processor: all pixels are the CPU's, bit for bit.

The folders of the variable PHOTOS, separated by colons, hold the photographs; without it images of noise are made. With
DEIT_FAST_TEST_SCALE=1 there are 1,024 of them.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("numba_cuda")

from deit_fast.config import AugmentConfig, DataConfig
from deit_fast.data.format.beton import JPEG_MODE, open_beton
from deit_fast.data.format.beton_set import BetonSet
from deit_fast.data.load.decode import Images, images_of
from deit_fast.data.load.views import CpuViews, Recipe, Slot
from deit_fast.kernels import resample, rng
from deit_fast.kernels.cuda import tables
from deit_fast.kernels.decode import STORED_LENGTH
from deit_fast.kernels.jpeg import turbojpeg
from tests.data.image_folders import convert
from tests.kernels.cuda.compiled_here import data_path_here
from tests.kernels.jpeg.stored import noise
from tests.scale import scaled

NUM_IMAGES = scaled(1024)
SIDE = 224
BATCH_SIZE = 32
CPU = torch.device("cpu")
_FLAT = [16 + number // 4 for number in range(64)]  # a table of quantisation of our own

# What becomes of a photograph before it is written to the beton
Save = Callable[[Image.Image, Path], None]
SAVES: dict[str, Save | None] = {
    "as it is": None,
    "progressive": lambda image, path: image.save(path, quality=90, progressive=True),
    "grey": lambda image, path: image.convert("L").save(path, quality=90),
    "4:2:2": lambda image, path: image.save(path, quality=90, subsampling="4:2:2"),
    "odd sizes": lambda image, path: image.crop((3, 2, image.width - 4, image.height - 5)).save(path, quality=90),
    "tables of its own": lambda image, path: image.save(path, qtables=[_FLAT, _FLAT[::-1]], optimize=True),
    "narrow": lambda image, path: image.crop((0, 0, 35, image.height)).save(path, quality=95),
    "4:4:4": lambda image, path: image.save(path, quality=95, subsampling="4:4:4"),
}


def _photographs(folder: Path) -> list[Path]:
    """NUM_IMAGES of the folders of PHOTOS, in turns; or as many images of noise."""
    if "PHOTOS" in os.environ:
        folders = [sorted(Path(one).rglob("*.jp*g")) for one in os.environ["PHOTOS"].split(":")]
        return [path for several in zip(*folders, strict=False) for path in several][:NUM_IMAGES]
    paths = []
    for number in range(NUM_IMAGES):
        path = folder / f"{number}.jpg"
        path.write_bytes(noise(number, 90 + 7 * (number % 30), 300 - 5 * (number % 40), ("4:2:0", "4:4:4")[number % 2], 90))
        paths.append(path)
    return paths


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    """Of a beton of photographs of all kinds, each with optimised Huffman tables: `write` makes them."""
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "images" / "only").mkdir(parents=True)
    saves = list(SAVES.values())
    for number, source in enumerate(_photographs(folder)):
        path = folder / "images" / "only" / f"{number:04}.jpg"
        save = saves[number % len(saves)]
        if save is None:
            path.write_bytes(source.read_bytes())
        else:
            save(Image.open(source), path)
    convert(folder / "images", folder / "out.beton", num_workers=2)
    return images_of(open_beton(folder / "out.beton"))


@pytest.fixture(scope="module")
def gpu_views() -> Iterator[ModuleType]:
    with data_path_here() as module:
        yield module


def _fail(*_: Any) -> NoReturn:
    raise AssertionError


def _whole_plans(beton: BetonSet, samples: np.ndarray) -> np.ndarray:
    """Plans (B, PLAN_LENGTH) of views that show all of each image."""
    heights, widths = beton.heights[samples], beton.widths[samples]
    nothing, sides = np.zeros(len(samples)), np.full(len(samples), SIDE)
    return np.stack([nothing, nothing, heights, widths, sides, sides, nothing, nothing, nothing], 1).astype(np.int64)


@pytest.mark.slow
def test_whole_photographs_are_libjpegs(images: Images, gpu_views: ModuleType) -> None:
    """Of 1,024, all were taken and equal."""
    decoder = gpu_views.RaggedDecoder(images, resample.BICUBIC, num_workers=2, device=CPU)
    beton, libjpeg, outcomes = images.beton, turbojpeg.JpegDecoder(), Counter[str]()
    assert (beton.modes == JPEG_MODE).all()
    for first in range(0, beton.num_samples, BATCH_SIZE):
        samples = np.arange(first, min(first + BATCH_SIZE, beton.num_samples))
        ids, stored = rng.pack_view_ids(0, samples, 0 * samples), np.empty((len(samples), STORED_LENGTH), np.int64)
        images.locate(ids, stored)
        decoded = decoder.decode(ids, stored, _whole_plans(beton, samples), SIDE)
        for sample, row, is_left in zip(samples.tolist(), decoded.images, decoded.left, strict=True):
            height, width = int(beton.heights[sample]), int(beton.widths[sample])
            status, wanted = libjpeg.decode(images.stored_bytes(sample).tobytes(), height, width)
            assert status == 0
            assert not is_left
            at = row[tables.OFFSET]
            ours = decoded.pixels.numpy()[at : at + 3 * height * width].reshape(height, width, 3)
            np.testing.assert_array_equal(ours, wanted, err_msg=str(sample))
            outcomes[list(SAVES)[sample % len(SAVES)]] += 1
    print(dict(outcomes))
    assert outcomes.total() == beton.num_samples
    assert decoder.num_refused == 0


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_whole_batches_are_the_cpus(images: Images, gpu_views: ModuleType) -> None:
    """Three views of each of 1,024 photographs, decoded, resampled, augmented, normalised, erased and mixed: all were equal."""
    augment = AugmentConfig(repeats=3, color_jitter=0.3, erase=0.25)
    data = DataConfig(train=images.beton.name, batch_size=BATCH_SIZE, dtype="float32")
    of_cpu = CpuViews(images, Recipe(data, augment, 1, 3), SIDE, batch_size=BATCH_SIZE, num_workers=2, replace=_fail)
    on_device = Recipe(replace(data, decode="gpu"), replace(augment, device="gpu"), 1, 3)
    of_device = gpu_views.GpuViews(images, on_device, SIDE, batch_size=BATCH_SIZE, num_workers=2, replace=_fail, device=CPU)
    wanted = Slot(np.empty((BATCH_SIZE, SIDE, SIDE, 3), np.float32), np.empty((BATCH_SIZE, 1), np.float32))
    slot = Slot(np.empty((BATCH_SIZE, SIDE, SIDE, 3), np.uint8), np.empty((BATCH_SIZE, 1), np.float32))
    samples = np.repeat(np.arange(images.beton.num_samples), 3)
    ids = rng.pack_view_ids(1, samples, np.arange(len(samples)) % 3)
    for first in range(0, len(ids), BATCH_SIZE):
        some = ids[first : first + BATCH_SIZE]
        ours, of_cpus = of_device.make(some, slot), of_cpu.make(some, wanted)
        np.testing.assert_array_equal(np.asarray(ours.images), of_cpus.images, err_msg=str(first))
        np.testing.assert_array_equal(np.asarray(ours.targets), of_cpus.targets)
        assert not ours.damaged().any()
    assert of_device.num_refused == 0
