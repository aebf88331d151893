"""Resampling against Pillow and torchvision, bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import functional as F

from deit_fast.augment import crop, resample

PILLOW = {kind: Image.Resampling[name.upper()] for name, kind in resample.FILTERS.items()}
TORCHVISION = {
    resample.BILINEAR: F.InterpolationMode.BILINEAR,
    resample.BICUBIC: F.InterpolationMode.BICUBIC,
}


def _view(image: np.ndarray, plan: tuple[int, ...], kind: int, flipped: bool, resolution: int) -> np.ndarray:
    sizes = resample.scratch_sizes(image.shape[0], image.shape[1], resolution)
    rows, integers, accumulator = (np.empty(size, dtype) for size, dtype in zip(sizes, ("u1", "i4", "i4"), strict=True))
    view = np.empty((resolution, resolution, 3), np.uint8)
    resample.resample(image, plan, kind, flipped, rows, integers, accumulator, view)
    return view


def _image(seed: int, height: int, width: int) -> np.ndarray:
    # noise at the extremes: overshoot of the cubic filter is clipped
    return np.random.default_rng(seed).choice(np.array([0, 3, 128, 250, 255], np.uint8), (height, width, 3))


@settings(max_examples=150)
@given(
    seed=st.integers(0, 1000),
    height=st.integers(1, 400),
    width=st.integers(1, 400),
    resolution=st.sampled_from([1, 7, 32, 97, 224]),
    kind=st.sampled_from(sorted(resample.FILTERS.values())),
    flipped=st.booleans(),
)
def test_random_crop_equals_pillow(seed: int, height: int, width: int, resolution: int, kind: int, flipped: bool) -> None:
    image = _image(seed, height, width)
    plan = crop.random_resized_crop(0, np.uint64(seed), height, width, (0.08, 1.0), (3 / 4, 4 / 3), resolution)
    top, left, box_height, box_width = plan[:4]
    box = Image.fromarray(image).crop((left, top, left + box_width, top + box_height))
    want = np.asarray(box.resize((resolution, resolution), PILLOW[kind]))
    np.testing.assert_array_equal(_view(image, plan, kind, flipped, resolution), want[:, ::-1] if flipped else want)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 1000),
    height=st.integers(8, 300),
    width=st.integers(8, 300),
    resolution=st.sampled_from([32, 97, 160]),
    ratio=st.sampled_from([0.875, 0.95, 1.0]),
    kind=st.sampled_from([resample.BILINEAR, resample.BICUBIC]),
)
def test_evaluation_view_equals_torchvision(
    seed: int, height: int, width: int, resolution: int, ratio: float, kind: int
) -> None:
    image = _image(seed, height, width)
    resized = int(resolution / ratio)
    plan = crop.resized_centre_crop(height, width, resized, resolution)
    whole = F.resize(Image.fromarray(image), [resized], interpolation=TORCHVISION[kind])
    want = np.asarray(F.center_crop(whole, [resolution, resolution]))
    np.testing.assert_array_equal(_view(image, plan, kind, False, resolution), want)


@pytest.mark.parametrize("kind", sorted(resample.FILTERS.values()))
@pytest.mark.parametrize("size", [(1, 1), (2000, 3), (3, 2000), (1200, 900)])
def test_scratch_is_large_enough_for_any_shrinking(size: tuple[int, int], kind: int) -> None:
    image = _image(1, *size)
    plan = (0, 0, *size, 32, 32, 0, 0)
    want = np.asarray(Image.fromarray(image).resize((32, 32), PILLOW[kind]))
    np.testing.assert_array_equal(_view(image, plan, kind, False, 32), want)
