"""Evaluation batches made on the device, or in the simulator of one, against the CPU loader's, bit for bit."""

from __future__ import annotations

import copy
import functools
import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("numba_cuda")

from deit_fast.config import AugmentConfig, DataConfig, UserError
from deit_fast.data.format.beton import open_beton
from deit_fast.data.load import gpu_decode, loader
from deit_fast.data.load.batch import Batch
from deit_fast.data.load.batches import Loader
from deit_fast.data.load.decode import images_of
from deit_fast.data.load.gpu_decode import DeviceMemory
from deit_fast.data.load.gpu_views import GpuViews
from deit_fast.data.load.loader import eval_loader, train_loader
from deit_fast.data.load.views import CpuViews
from deit_fast.kernels.cuda import driver as cuda
from deit_fast.kernels.gather import Totals
from deit_fast.kernels.jpeg import device_tables
from tests.data.image_folders import convert
from tests.kernels.cuda.devices import on_devices

SIDE, SMALLER = (6, 5) if cuda.SIMULATED else (32, 20)
# sampling, height and width; of four columns with half the chroma, libjpeg interpolates in its own way: the CPU's to decode
IMAGES = [
    ("4:2:0", 37, 50), ("4:2:2", 40, 24), ("4:2:0", 30, 4), ("4:4:4", 19, 33), ("grey", 28, 45), ("4:2:2", 31, 17),
    ("4:2:0", 24, 64),
]  # fmt: skip


def _picture(number: int, height: int, width: int) -> Image.Image:
    noise = np.random.default_rng(number).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def betons(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The IMAGES in three classes, as JPEGs and as raw pixels."""
    folder: Path = tmp_path_factory.mktemp("kinds")
    for number, (kind, height, width) in enumerate(IMAGES):
        image, sampling = _picture(number, height, width), {} if kind == "grey" else {"subsampling": kind}
        (folder / "images" / f"{number % 3}").mkdir(parents=True, exist_ok=True)
        image = image.convert("L") if kind == "grey" else image
        image.save(folder / "images" / f"{number % 3}" / f"{number}.jpg", quality=90, **sampling)
    for mode in ("jpg", "raw"):
        convert(folder / "images", folder / f"{mode}.beton", mode=mode)
    return {mode: folder / f"{mode}.beton" for mode in ("jpg", "raw")}


def _loader(beton: Path, device: str, decode: str, augment: AugmentConfig | None = None, **data: Any) -> Loader:
    options = {"resolution": SIDE, "eval_batch_size": 3, "num_workers": 2, "decode": decode, **data}
    place = torch.device("cuda", 0) if device == "cuda" else torch.device("cpu")
    return eval_loader(DataConfig(val=str(beton), **options), augment or AugmentConfig(), rank=0, world_size=1, device=place)


def _batches(of: Loader) -> list[Batch]:
    found = [batch.copy() for batch in of]
    of.close()
    return found


def _same(ours: list[Batch], of_cpu: list[Batch]) -> None:
    assert [len(batch.images) for batch in ours] == [len(batch.images) for batch in of_cpu]
    for batch, wanted in zip(ours, of_cpu, strict=True):
        assert batch.targets.dtype == torch.int64
        assert (batch.images.dtype, batch.images.device.type) == (wanted.images.dtype, wanted.images.device.type)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        for name in ("images", "targets", "samples", "views"):
            assert torch.equal(getattr(batch, name), getattr(wanted, name)), name


@on_devices
@pytest.mark.parametrize(("mode", "dtype"), [("jpg", "float32"), ("raw", "bfloat16")])
def test_batches_are_the_cpus(betons: dict[str, Path], mode: str, dtype: str, device: str) -> None:
    """The last is smaller. Training's policy, erasing and mixing do not touch them."""
    ours = _loader(betons[mode], device, "gpu", AugmentConfig(erase=1.0, mean=(0.5, 0.4, 0.3)), dtype=dtype)
    of_cpu = _loader(betons[mode], device, "cpu", AugmentConfig(mean=(0.5, 0.4, 0.3)), dtype=dtype)
    wanted = _batches(of_cpu)
    assert [len(batch.images) for batch in wanted] == [3, 3, 1]
    _same(_batches(ours), wanted)
    _same(_batches(copy.deepcopy(ours)), wanted)
    assert (type(ours.views()), type(of_cpu.views())) == (GpuViews, CpuViews)
    assert ours.num_refused == (1 if mode == "jpg" else 0)
    assert of_cpu.num_refused == 0


@on_devices
def test_a_resolution_and_a_crop_of_their_own(betons: dict[str, Path], device: str) -> None:
    loaders = [_loader(betons["jpg"], device, place, eval_crop_ratio=0.6, interpolation="bilinear") for place in ("gpu", "cpu")]
    for resolution in (SIDE, SMALLER):
        for one in loaders:
            one.set_resolution(resolution)
        ours, of_cpu = map(_batches, loaders)
        assert ours[0].images.shape == (3, 3, resolution, resolution)
        _same(ours, of_cpu)
    assert loaders[0].num_refused == 2  # once at each resolution


@on_devices
def test_jpegs_without_tiles_are_the_cpus(betons: dict[str, Path], device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "images_of", functools.partial(images_of, has_index=False))
    ours = _loader(betons["jpg"], device, "gpu")
    _same(_batches(ours), _batches(_loader(betons["jpg"], device, "cpu")))
    assert ours.num_refused == len(IMAGES)


@on_devices
def test_two_batches_with_damage_one_after_the_other(
    betons: dict[str, Path], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is made once more while what the device says of the second is still to be read."""
    decode_tiles, batches = gpu_decode.decode_tiles, itertools.count()

    def picky(memory: DeviceMemory, totals: Totals) -> None:
        decode_tiles(memory, totals)
        if next(batches) in (0, 1):
            memory.statuses[: totals.jpegs] = device_tables.UNSUPPORTED
            memory.pixels.zero_()

    monkeypatch.setattr(gpu_decode, "decode_tiles", picky)
    ours = _loader(betons["jpg"], device, "gpu", eval_batch_size=1)
    _same(_batches(ours), _batches(_loader(betons["jpg"], device, "cpu", eval_batch_size=1)))
    assert ours.num_refused == 3  # one by the host


@on_devices
def test_batches_that_are_held_stay(betons: dict[str, Path], device: str) -> None:
    ours = _loader(betons["jpg"], device, "gpu", eval_batch_size=1)
    held = list(ours)
    _same(held, _batches(_loader(betons["jpg"], device, "cpu", eval_batch_size=1)))
    del held
    ours.close()
    assert ours.num_pieces == (ours.num_slots, ours.num_slots)


@on_devices
@pytest.mark.parametrize("seen_by", ["host", "device"])
def test_a_damaged_image_ends_evaluation_as_on_the_cpu(
    betons: dict[str, Path], device: str, seen_by: str, tmp_path: Path
) -> None:
    """In its header, or in what ends its tiles."""
    content, beton = bytearray(betons["jpg"].read_bytes()), open_beton(betons["jpg"])
    place, size = int(beton.offsets[4]), int(beton.sizes[4])
    start, end = (0, 4) if seen_by == "host" else (3 * size // 4, size)
    content[place + start : place + end] = bytes(end - start)
    damaged = tmp_path / "damaged.beton"
    damaged.write_bytes(content)
    Path(f"{damaged}.json").write_bytes(Path(f"{betons['jpg']}.json").read_bytes())
    lines = []
    for decode in ("gpu", "cpu"):
        with pytest.raises(UserError, match=r"sample 4 .* does not decode") as caught:
            _batches(_loader(damaged, device, decode, on_error="replace"))
        lines.append(str(caught.value))
    assert lines[0] == lines[1]


@on_devices
def test_auto_is_the_device_where_there_is_one(betons: dict[str, Path], device: str) -> None:
    assert isinstance(_loader(betons["jpg"], device, "auto").views(), GpuViews)
    assert isinstance(_loader(betons["jpg"], device, "cpu", AugmentConfig(device="gpu")).views(), CpuViews)
    assert isinstance(_loader(betons["jpg"], device, "auto", dtype="uint8").views(), CpuViews)
    with pytest.raises(UserError, match=r"data.dtype=uint8: not possible with data.decode=gpu"):
        _loader(betons["jpg"], device, "gpu", dtype="uint8")


@on_devices
@pytest.mark.parametrize("mode", ["jpg", "raw"])
def test_images_that_are_shrunk_by_more_than_the_device_can_are_the_cpus(mode: str, device: str, tmp_path: Path) -> None:
    """To views of 3 pixels, in training and in evaluation."""
    for number, (height, width) in enumerate([(780, 790), (40, 50), (30, 44)]):
        (tmp_path / f"{number % 2}").mkdir(exist_ok=True)
        _picture(number, height, width).save(tmp_path / f"{number % 2}" / f"{number}.jpg")
    convert(tmp_path, tmp_path / "out.beton", mode=mode)
    _same(*(_batches(_loader(tmp_path / "out.beton", device, place, resolution=3)) for place in ("gpu", "cpu")))
    whole = AugmentConfig(auto_augment="", erase=0, mixup=None, cutmix=None, crop_scale=(1.0, 1.0), repeats=1)
    trained = []
    for place in ("gpu", "cpu"):
        data = DataConfig(train=str(tmp_path / "out.beton"), resolution=3, batch_size=3, num_workers=1, decode=place)
        augment = replace(whole, device=place)
        there = torch.device("cuda", 0) if device == "cuda" else torch.device("cpu")
        training = train_loader(data, augment, seed=0, rank=0, world_size=1, device=there)
        trained += _batches(training)
        assert training.num_refused == (1 if (place, mode) == ("gpu", "jpg") else 0)
    assert torch.equal(trained[0].images, trained[1].images)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", ["jpg", "raw"])
def test_large_batches_are_the_cpus(large_betons: dict[str, Path], mode: str) -> None:
    loaders = [
        _loader(large_betons[mode], "cuda", place, resolution=224, eval_batch_size=128, num_workers=None)
        for place in ("gpu", "cpu")
    ]
    for ours, of_cpu in zip(*loaders, strict=True):
        _same([ours], [of_cpu])
    assert loaders[0].num_refused <= loaders[0].beton.num_samples / 10
