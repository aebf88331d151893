"""Options of the loader: subsets, order by pages, stand-ins for damaged images, other crops and filters."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as F

from deit_fast.config import AugmentConfig, DataConfig, UserError
from deit_fast.data.format.beton import open_beton
from deit_fast.data.load.loader import Batch, Loader, eval_loader, train_loader
from deit_fast.kernels import crop, rng
from tests.data.image_folders import convert, make_images
from tests.data.stored import stored_images
from tests.pillows import resized, with_shorter_side

CPU = torch.device("cpu")
PLAIN = AugmentConfig(repeats=1, flip=0, auto_augment="", erase=0, mixup=None, cutmix=None, label_smoothing=0)
SIDE = 32


@pytest.fixture(scope="module")
def beton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("set")
    out = folder / "set.beton"
    convert(make_images(folder / "images", {"ant": 20, "bee": 10, "cow": 10}, height=100, width=150), out)
    return out


def _loader(path: Path, augment: AugmentConfig = PLAIN, **data: object) -> Loader:
    config = DataConfig(**{"train": str(path), "resolution": SIDE, "batch_size": 8, "num_workers": 2, **data})  # type: ignore[arg-type]
    return train_loader(config, augment, seed=3, rank=0, world_size=1, device=CPU)


def _batches(loader: Loader) -> list[Batch]:
    return [Batch(batch.images.clone(), batch.targets.clone(), batch.samples, batch.views) for batch in loader]


def _samples(loader: Loader) -> list[int]:
    return [sample for batch in loader for sample in batch.samples.tolist()]


def test_a_subset_is_shown_and_nothing_else(beton: Path) -> None:
    loader = _loader(beton, subset=20, batch_size=5)
    shown = _samples(loader)
    assert len(loader) == 4
    assert len(set(shown)) == 20
    labels = open_beton(beton).labels[shown]
    assert np.bincount(labels).tolist() == [10, 5, 5]  # each class its share
    loader.set_epoch(1)
    assert set(_samples(loader)) == set(shown)
    with pytest.raises(UserError, match=r"data\.subset=41: want 1 to 40"):
        _loader(beton, subset=41)


def test_order_by_pages_shows_every_image_once_with_the_pixels_of_the_random_order(beton: Path) -> None:
    by_pages = _loader(beton, order="pages", window_gb=0.001)
    views = {
        int(sample): image for batch in _batches(by_pages) for sample, image in zip(batch.samples, batch.images, strict=True)
    }
    assert sorted(views) == list(range(40))
    for batch in _loader(beton):
        for sample, image in zip(batch.samples.tolist(), batch.images, strict=True):
            assert torch.equal(views[sample], image)


def _damaged(beton: Path, out: Path, samples: tuple[int, ...]) -> Path:
    content = bytearray(beton.read_bytes())
    opened = open_beton(beton)
    for sample in samples:
        start = int(opened.offsets[sample])
        content[start : start + 60] = bytes(60)
    out.write_bytes(content)
    return out


def test_damaged_images_are_replaced_and_counted(beton: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    damaged = _damaged(beton, tmp_path / "damaged.beton", (4, 5, 39))
    loader = _loader(damaged, on_error="replace")
    batches = _batches(loader)
    shown = [sample for batch in batches for sample in batch.samples.tolist()]
    assert len(shown) == 40
    assert set(shown) == set(range(40)) - {4, 5, 39}
    assert all(len(set(batch.samples.tolist())) == 8 for batch in batches)  # no image stands beside its own copy
    lines = re.findall(r"sample (\d+) \(offset .*; sample (\d+) stands in for it", capfd.readouterr().err)
    assert loader.num_replaced == len(lines) >= 3
    assert {int(sample) for sample, _ in lines} == {4, 5, 39}
    labels = torch.from_numpy(open_beton(beton).labels)
    for batch in batches:  # a stand-in comes with its own label
        assert torch.equal(batch.targets.argmax(1), labels[batch.samples])
    with pytest.raises(UserError, match=r"sample \d+ \(offset \d+, \d+ bytes\) does not decode: .*data.on_error=replace"):
        list(_loader(damaged))


def test_an_evaluation_never_replaces(beton: Path, tmp_path: Path) -> None:
    damaged = _damaged(beton, tmp_path / "damaged.beton", (4,))
    config = DataConfig(val=str(damaged), resolution=SIDE, eval_batch_size=8, num_workers=1, on_error="replace")
    with pytest.raises(UserError, match="sample 4 "):
        list(eval_loader(config, PLAIN, rank=0, world_size=1, device=CPU))


def test_all_images_damaged_is_an_error(beton: Path, tmp_path: Path) -> None:
    damaged = _damaged(beton, tmp_path / "damaged.beton", tuple(range(40)))
    with pytest.raises(UserError, match="does not decode"):
        list(_loader(damaged, on_error="replace"))


def test_centre_crop_is_the_evaluation_view_flipped_or_not(beton: Path) -> None:
    images = [Image.fromarray(pixels) for _, pixels in stored_images(beton)]
    centre = dataclasses.replace(PLAIN, crop="centre", flip=0.5, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    num_flipped = 0
    for batch in _loader(beton, centre, eval_crop_ratio=0.8):
        for sample, image in zip(batch.samples.tolist(), batch.images, strict=True):
            whole = with_shorter_side(images[sample], 40)
            want = F.to_tensor(F.center_crop(whole, [SIDE, SIDE]))
            is_flipped = not torch.allclose(image, want, atol=1e-6, rtol=0)
            num_flipped += is_flipped
            torch.testing.assert_close(image, want.flip(2) if is_flipped else want, atol=1e-6, rtol=0)
    assert 8 <= num_flipped <= 32  # of 40


def test_simple_random_crop_equals_torchvision(beton: Path) -> None:
    images = [Image.fromarray(pixels) for _, pixels in stored_images(beton)]
    simple = dataclasses.replace(PLAIN, crop="simple", mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    for batch in _loader(beton, simple):
        for sample, view_id, image in zip(
            batch.samples.tolist(), rng.pack_view_ids(0, batch.samples.numpy(), batch.views.numpy()), batch.images, strict=True
        ):
            whole = with_shorter_side(images[sample], SIDE)
            padded = np.asarray(F.pad(whole, [4], padding_mode="reflect"))
            plan = crop.simple_random_crop(np.uint64(3), view_id, images[sample].height, images[sample].width, SIDE, 4)
            row, column = plan[6] + 4, plan[7] + 4
            want = torch.from_numpy(padded[row : row + SIDE, column : column + SIDE].copy()).permute(2, 0, 1) / 255
            torch.testing.assert_close(image, want, atol=1e-6, rtol=0)
    with pytest.raises(UserError, match=r"data\.resolution=4: want above 4 for augment\.crop=simple"):
        _loader(beton, simple, resolution=4)


@pytest.mark.parametrize("interpolation", ["lanczos", "box", "hamming"])
def test_every_filter_is_to_be_had(beton: Path, interpolation: str) -> None:
    images = [Image.fromarray(pixels) for _, pixels in stored_images(beton)]
    whole = dataclasses.replace(PLAIN, crop_scale=(1.0, 1.0), crop_ratio=(1.5, 1.5), mean=(0.0,) * 3, std=(1.0,) * 3)
    for batch in _loader(beton, whole, interpolation=interpolation):
        for sample, image in zip(batch.samples.tolist(), batch.images, strict=True):
            want = np.asarray(resized(images[sample], (SIDE, SIDE), Image.Resampling[interpolation.upper()]))
            torch.testing.assert_close(image, torch.from_numpy(want.copy()).permute(2, 0, 1) / 255, atol=1e-6, rtol=0)


def test_scaled_decoding_changes_pixels_a_little(beton: Path) -> None:
    exact, scaled = (_batches(_loader(beton, dct_scaling=dct_scaling)) for dct_scaling in (False, True))
    differences = torch.cat(
        [(first.images - second.images).abs().flatten() for first, second in zip(exact, scaled, strict=True)]
    )
    assert 0 < differences.mean() < 0.1


@pytest.mark.parametrize("resolution", [16, 64])
def test_an_evaluation_at_another_resolution_is_as_if_made_for_it(beton: Path, resolution: int) -> None:
    def loader(side: int) -> Loader:
        config = DataConfig(val=str(beton), resolution=side, eval_batch_size=8, num_workers=1)
        return eval_loader(config, PLAIN, rank=0, world_size=1, device=CPU)

    changed = loader(SIDE)
    changed.set_resolution(resolution)
    for got, want in zip(_batches(changed), _batches(loader(resolution)), strict=True):
        assert torch.equal(got.images, want.images)


def test_simple_random_crop_refuses_a_later_resolution_that_its_padding_exceeds(beton: Path) -> None:
    loader = _loader(beton, dataclasses.replace(PLAIN, crop="simple"))
    loader.set_resolution(3)
    with pytest.raises(UserError, match=r"data\.resolution=3: want above 4"):
        next(iter(loader))
