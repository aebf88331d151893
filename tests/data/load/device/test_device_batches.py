"""Batches made on the device, or in the simulator of one, against the CPU loader's of the same betons."""

from __future__ import annotations

import copy
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import ffcv.loader
import numpy as np
import pytest
import torch
from ffcv import transforms
from PIL import Image

pytest.importorskip("numba_cuda")


from deit_fast.config import AugmentConfig, DataConfig, UserError
from deit_fast.data import ffcv_ops
from deit_fast.data.format.beton import open_beton
from deit_fast.data.load import gpu_decode
from deit_fast.data.load.batch import Batch
from deit_fast.data.load.batches import Loader
from deit_fast.data.load.decode import open_images
from deit_fast.data.load.gpu_decode import DeviceMemory
from deit_fast.data.load.loader import open_train_set, train_loader
from deit_fast.data.load.views import CpuViews, Recipe, Slot
from deit_fast.kernels.cuda import driver as cuda
from deit_fast.kernels.cuda import resample
from deit_fast.kernels.gather import Totals
from deit_fast.kernels.jpeg import device_tables
from tests.data.image_folders import convert
from tests.kernels.cuda.devices import on_devices

NUM_IMAGES = 16
SIDE, SMALLER = (6, 5) if cuda.SIMULATED else (12, 9)  # of views
PLAIN = AugmentConfig(auto_augment="", erase=0, mixup=None, cutmix=None)


@pytest.fixture(scope="module", params=["jpg", "raw"])
def beton(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small images of all shapes, smooth and in two classes."""
    folder: Path = tmp_path_factory.mktemp(request.param)
    generator = np.random.default_rng(0)
    for number in range(NUM_IMAGES):
        height, width = generator.integers(12, 40, 2)
        noise = generator.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        image = Image.fromarray(noise).resize((int(width), int(height)), Image.Resampling.BICUBIC)
        (folder / f"{number % 2}").mkdir(exist_ok=True)
        image.save(folder / f"{number % 2}" / f"{number}.jpg", quality=92)
    convert(folder, folder / "out.beton", num_workers=1, mode=request.param)
    return folder / "out.beton"


def _loader(beton: Path, device: str, augment: AugmentConfig, *, where: str, **data: Any) -> Loader:
    """where: cpu, or decode and augment as `cpu gpu`."""
    decode, augmenting = where.split()
    options = {"resolution": SIDE, "batch_size": 7, "num_workers": 2, "decode": decode, **data}
    config = DataConfig(**{"train": str(beton), **options})
    place = torch.device("cpu") if device == "cpu" or augmenting == "cpu" else torch.device("cuda", 0)
    changed = replace(augment, device=augmenting)  # type: ignore[arg-type]
    return train_loader(config, changed, seed=3, rank=0, world_size=1, device=place)


def _fail(*_: Any) -> NoReturn:
    raise AssertionError


def _batches(loader: Loader, count: int = 2) -> list[Batch]:
    """The first batches, on the CPU, copied."""
    found = []
    for _, batch in zip(range(count), loader, strict=False):
        found.append(Batch(*(tensor.cpu().clone() for tensor in (batch.images, batch.targets, batch.samples, batch.views))))
    loader.close()
    return found


def _compare(ours: list[Batch], of_cpu: list[Batch], augment: AugmentConfig, *, levels: float) -> None:
    """Images within so many grey levels before normalisation."""
    assert len(ours) == len(of_cpu) > 0
    std = torch.tensor(augment.std).view(3, 1, 1)
    for batch, wanted in zip(ours, of_cpu, strict=True):
        for name in ("targets", "samples", "views"):
            assert torch.equal(getattr(batch, name), getattr(wanted, name)), name
        assert batch.images.dtype == wanted.images.dtype
        assert batch.images.shape == wanted.images.shape
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        difference = (batch.images.double() - wanted.images.double()).abs() * std * 255
        assert difference.max() <= levels


@on_devices
@pytest.mark.parametrize("where", ["cpu gpu", "gpu gpu"])
def test_views_alone_are_the_cpus(beton: Path, where: str, device: str) -> None:
    ours = _batches(_loader(beton, device, PLAIN, where=where))
    of_cpu = _batches(_loader(beton, device, PLAIN, where="cpu cpu"))
    _compare(ours, of_cpu, PLAIN, levels=1e-3)


@on_devices
@pytest.mark.slow
@pytest.mark.parametrize(("beton", "dtype"), [("jpg", "float32"), ("raw", "float16"), ("jpg", "bfloat16")], indirect=["beton"])
def test_augmented_and_mixed_batches_are_the_cpus(beton: Path, dtype: str, device: str) -> None:
    """Seven views, three copies of an image: the batch ends inside a group of copies."""
    augment = AugmentConfig(auto_augment="rand-m9-n3-mstd0.5-inc1", erase=0.6, color_jitter=0.3)
    ours = _batches(_loader(beton, device, augment, where="cpu gpu", dtype=dtype))
    of_cpu = _batches(_loader(beton, device, augment, where="cpu cpu", dtype=dtype))
    assert len(set(of_cpu[0].samples.tolist())) == 3
    _compare(ours, of_cpu, augment, levels=1.0)
    for batch, wanted in zip(ours, of_cpu, strict=True):
        torch.testing.assert_close(batch.images.float(), wanted.images.float(), atol=1e-3, rtol=0)


@on_devices
@pytest.mark.parametrize("batch_size", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_all_of_it_on_the_device(beton: Path, batch_size: int, device: str) -> None:
    """A batch of one, and one that ends inside a group of copies."""
    augment = AugmentConfig(auto_augment="3a", color_jitter=0.3, erase=0.6)
    ours = _batches(_loader(beton, device, augment, where="gpu gpu", batch_size=batch_size))
    of_cpu = _batches(_loader(beton, device, augment, where="cpu cpu", batch_size=batch_size))
    _compare(ours, of_cpu, augment, levels=1e-3)


@on_devices
@pytest.mark.parametrize("where", ["cpu gpu", "cpu cpu"])
def test_batches_that_are_held_stay_and_a_copied_loader_shows_the_same(beton: Path, where: str, device: str) -> None:
    """Of eight batches, through memory for two on the host, or five."""
    loader = _loader(beton, device, PLAIN, where=where, batch_size=2, resolution=4)
    want = _batches(loader, 8)
    held = list(loader)
    for ours in (held, list(loader), list(copy.deepcopy(loader))):
        assert len(ours) == len(want) == 8
        for batch, wanted in zip(ours, want, strict=True):
            assert torch.equal(batch.images.cpu(), wanted.images)
            assert torch.equal(batch.targets.cpu(), wanted.targets)
    del held, ours, batch
    loader.close()
    assert loader.num_pieces == (loader.num_slots, loader.num_slots)


@on_devices
@pytest.mark.slow
def test_a_stage_an_epoch_later_and_in_the_middle(beton: Path, device: str) -> None:
    """Of another resolution and another augmentation."""
    wheres = "gpu gpu", "cpu cpu"
    loaders = [_loader(beton, device, PLAIN, where=where, batch_size=3) for where in wheres]
    stage = replace(PLAIN, auto_augment="rand-m9-n1-mstd0.5", erase=0.6)
    for resolution, augment, epoch, first_step in ((SIDE, PLAIN, 0, 0), (SMALLER, stage, 1, 2)):
        found = []
        for loader, where in zip(loaders, wheres, strict=True):
            loader.set_resolution(resolution)
            loader.set_augment(replace(augment, device=where.split()[1]))  # type: ignore[arg-type]
            loader.set_epoch(epoch, first_step)
            found.append(_batches(loader))
        assert found[0][0].images.shape[-1] == resolution
        _compare(found[0], found[1], augment, levels=1e-3 if device == "cpu" else 1.0)


@on_devices
@pytest.mark.slow
@pytest.mark.parametrize("where", ["cpu gpu", "gpu gpu"])
def test_another_set_is_shown_as_by_the_cpu(beton: Path, where: str, device: str, tmp_path: Path) -> None:
    """Stages of the beton, of the same images written smaller, of these as raw pixels, and of the beton again."""
    betons = [beton]
    for mode in ("jpg", "raw"):
        betons.append(tmp_path / f"{mode}.beton")
        convert(beton.parent, betons[-1], mode=mode, max_resolution=12)
    options: dict[str, Any] = {"batch_size": 3, "resolution": 4}
    loaders = [_loader(beton, device, PLAIN, where=one, **options) for one in (where, "cpu cpu")]
    views = []
    for one in (*betons, beton):
        found = []
        for loader in loaders:
            data = DataConfig(train=str(one), **options)
            loader.show(open_train_set(data, PLAIN, seed=3, rank=0, world_size=1, device=loader.device))
            found.append(_batches(loader))
            assert loader.beton.paths[0] == one
        _compare(found[0], found[1], PLAIN, levels=1e-3)
        views.append(found[0][0].images)
    assert torch.equal(views[0], views[3])
    assert not torch.equal(views[0], views[1])


@on_devices
@pytest.mark.slow
def test_several_betons_with_weights_in_the_order_of_pages(beton: Path, device: str, tmp_path: Path) -> None:
    for name in (beton.name, f"{beton.name}.json"):
        shutil.copy(beton.parent / name, tmp_path / name)
    betons = f"{beton}*2,{tmp_path / beton.name}"
    options = {"train": betons, "order": "pages", "batch_size": 5, "resolution": 4}
    ours, of_cpu = (_batches(_loader(beton, device, PLAIN, where=where, **options), 9) for where in ("gpu gpu", "cpu cpu"))
    _compare(ours, of_cpu, PLAIN, levels=1e-3)
    assert max(batch.samples.max() for batch in ours) >= 2 * NUM_IMAGES


@on_devices
@pytest.mark.slow
@pytest.mark.parametrize("where", ["cpu gpu", "gpu gpu"])
def test_damaged_images_are_replaced_or_end_the_run_as_on_the_cpu(
    beton: Path, where: str, device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if "raw" in beton.parent.name:
        pytest.skip("raw pixels are not damaged")
    augment = replace(PLAIN, repeats=1)
    shown = _batches(_loader(beton, device, augment, where="cpu cpu", batch_size=5))[1]
    sample = int(shown.samples[2])
    content = bytearray(beton.read_bytes())
    place = int(open_beton(beton).offsets[sample])
    content[place : place + 4] = bytes(4)
    damaged = tmp_path / "damaged.beton"
    damaged.write_bytes(content)
    Path(f"{damaged}.json").write_bytes(Path(f"{beton}.json").read_bytes())
    loaders = [_loader(damaged, device, augment, where=one, batch_size=5, on_error="replace") for one in (where, "cpu cpu")]
    ours, of_cpu = (_batches(loader, 9) for loader in loaders)
    _compare(ours, of_cpu, augment, levels=1e-3)
    assert [loader.num_replaced for loader in loaders] == [1, 1]
    lines = capsys.readouterr().err.splitlines()
    said = [line for line in lines if "stands in" in line]
    assert len(set(said)) == 1
    with pytest.raises(UserError, match=rf"sample {sample} .* does not decode"):
        _batches(_loader(damaged, device, augment, where=where, batch_size=5))


@on_devices
def test_refused_jpegs_are_decoded_by_the_cpu_and_counted(beton: Path, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if "raw" in beton.parent.name:
        pytest.skip("there are no JPEGs")
    loader = _loader(beton, device, PLAIN, where="gpu gpu")

    def refuse(memory: DeviceMemory, totals: Totals) -> None:
        memory.statuses[: totals.jpegs] = device_tables.UNSUPPORTED

    monkeypatch.setattr(gpu_decode, "decode_tiles", refuse)
    ours = _batches(loader)
    _compare(ours, _batches(_loader(beton, device, PLAIN, where="cpu cpu")), PLAIN, levels=1e-3)
    assert loader.num_refused == sum(len(set(batch.samples.tolist())) for batch in ours)
    assert loader.num_replaced == 0


@on_devices
def test_an_error_on_the_way_reaches_the_consumer(beton: Path, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = _loader(beton, device, PLAIN, where="gpu gpu")

    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("in a kernel's launch")

    monkeypatch.setattr(resample, "resample", fail)
    with pytest.raises(ZeroDivisionError, match="launch"):
        _batches(loader)


@on_devices
@pytest.mark.slow
@pytest.mark.parametrize("beton", ["jpg"], indirect=True)  # FFCV compiles its loop for a quarter of a minute
def test_a_stock_loader_makes_images_on_the_device(beton: Path, device: str) -> None:
    """FFCV's loader gives sample numbers, which are view ids of the first views of epoch 0."""
    augment, seed = AugmentConfig(auto_augment="rand-m9-n3-mstd0.5-inc1", erase=0.6, repeats=1), 5
    place, ids = torch.device(device), np.arange(NUM_IMAGES, dtype=np.uint64)
    loader = ffcv.loader.Loader(
        str(beton),
        batch_size=7,
        num_workers=1,
        os_cache=True,
        order=ffcv.loader.OrderOption.SEQUENTIAL,
        drop_last=False,
        pipelines={
            "image": [
                ffcv_ops.DecodeTrainViews(str(beton), SIDE, seed, augment),
                transforms.ToTensor(),
                transforms.ToDevice(place),
                ffcv_ops.ImagesOnDevice(augment, seed),
                transforms.ToTorchImage(),
            ],
            "label": [ffcv_ops.Label(), transforms.ToTensor()],
        },
    )
    images = torch.cat([batch[0].cpu().clone() for batch in loader])
    recipe = Recipe(DataConfig(train=str(beton), dtype="float32"), augment, 2, seed)
    views = CpuViews(open_images(beton), recipe, SIDE, batch_size=7, num_workers=1, replace=_fail)
    slot = Slot(np.empty((7, SIDE, SIDE, 3), np.float32), np.empty((7, 2), np.float32))
    of_cpu = []
    for first in range(0, NUM_IMAGES, 7):
        made = views.make(ids[first : first + 7], slot)
        of_cpu.append(torch.from_numpy(np.array(made.images)).permute(0, 3, 1, 2))
    assert len(images) == NUM_IMAGES
    torch.testing.assert_close(images, torch.cat(of_cpu), atol=1e-3, rtol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("where", ["cpu gpu", "gpu gpu"])
def test_large_batches_are_the_cpus(large_betons: dict[str, Path], where: str) -> None:
    augment = AugmentConfig(color_jitter=0.3, repeats=4)
    for mode in ("raw", "jpg"):
        options = {"resolution": 224, "batch_size": 256, "num_workers": None}
        ours = _batches(_loader(large_betons[mode], "cuda", augment, where=where, **options), 4)
        of_cpu = _batches(_loader(large_betons[mode], "cuda", augment, where="cpu cpu", **options), 4)
        _compare(ours, of_cpu, augment, levels=1.0)


@pytest.mark.gpu
@pytest.mark.parametrize("where", ["cpu gpu", "gpu gpu"])
def test_batches_stay_whole_while_their_consumer_is_behind(large_betons: dict[str, Path], where: str) -> None:
    """What a stream still reads is not written over by the next batches."""
    options = {"resolution": 128, "batch_size": 64, "num_workers": None, "batches_ahead": 1}
    loader = _loader(large_betons["jpg"], "cuda", PLAIN, where=where, **options)
    at_once = [batch.images.double().sum().item() for batch in loader]
    later = []
    for batch in loader:
        torch.cuda._sleep(100_000_000)
        later.append(batch.images.double().sum())
    assert [total.item() for total in later] == at_once
    assert len(set(at_once)) == len(at_once) > 8
