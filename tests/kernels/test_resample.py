"""Resampling against Pillow and torchvision, bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import functional as F

from deit_fast.kernels import crop, resample
from tests.pillows import resized, with_shorter_side
from tests.scale import scaled

PILLOW = {kind: Image.Resampling[name.upper()] for name, kind in resample.FILTERS.items()}


def _view(image: np.ndarray, plan: tuple[int, ...], kind: int, flipped: bool, resolution: int) -> np.ndarray:
    sizes = resample.scratch_sizes(image.shape[0], image.shape[1], resolution)
    rows, integers = (np.empty(size, dtype) for size, dtype in zip(sizes, ("u1", "i4"), strict=True))
    view = np.empty((resolution, resolution, 3), np.uint8)
    resample.resample(image, *crop.axes(plan, 0, 0, 1), kind, flipped, rows, integers, view)
    return view


def _image(seed: int, height: int, width: int) -> np.ndarray:
    # noise at the extremes: overshoot of the cubic filter is clipped
    return np.random.default_rng(seed).choice(np.array([0, 3, 128, 250, 255], np.uint8), (height, width, 3))


@settings(max_examples=scaled(150, 20))
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
    want = np.asarray(resized(box, (resolution, resolution), PILLOW[kind]))
    np.testing.assert_array_equal(_view(image, plan, kind, flipped, resolution), want[:, ::-1] if flipped else want)


@settings(max_examples=scaled(60, 20))
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
    shorter = int(resolution / ratio)
    plan = crop.resized_centre_crop(height, width, shorter, resolution)
    whole = with_shorter_side(Image.fromarray(image), shorter, PILLOW[kind])
    want = np.asarray(F.center_crop(whole, [resolution, resolution]))
    np.testing.assert_array_equal(_view(image, plan, kind, False, resolution), want)


@pytest.mark.parametrize("kind", sorted(resample.FILTERS.values()))
@pytest.mark.parametrize("size", [(1, 1), (2000, 3), (3, 2000), (1200, 900)])
def test_scratch_is_large_enough_for_any_shrinking(size: tuple[int, int], kind: int) -> None:
    image = _image(1, *size)
    plan = (0, 0, *size, 32, 32, 0, 0)
    want = np.asarray(resized(Image.fromarray(image), (32, 32), PILLOW[kind]))
    np.testing.assert_array_equal(_view(image, plan, kind, False, 32), want)


@settings(max_examples=scaled(100, 20))
@given(
    seed=st.integers(0, 1000),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    out_height=st.integers(1, 70),
    out_width=st.integers(1, 70),
    edges=st.tuples(*(st.floats(0, 1),) * 4),
    kind=st.sampled_from(sorted(resample.FILTERS.values())),
)
def test_resize_of_a_box_equals_pillow(
    seed: int, height: int, width: int, out_height: int, out_width: int, edges: tuple[float, ...], kind: int
) -> None:
    image = _image(seed, height, width)
    left, right = sorted((edges[0] * width, edges[1] * width))
    upper, lower = sorted((edges[2] * height, edges[3] * height))
    box = None if min(right - left, lower - upper) < 0.01 else (left, upper, right, lower)
    want = np.asarray(resized(Image.fromarray(image), (out_width, out_height), PILLOW[kind], box))
    np.testing.assert_array_equal(resample.resize(image, out_height, out_width, kind, box), want)


@settings(max_examples=scaled(60, 20))
@given(
    seed=st.integers(0, 1000),
    height=st.integers(8, 120),
    width=st.integers(8, 120),
    resolution=st.sampled_from([9, 32, 97]),
    flipped=st.booleans(),
)
def test_simple_random_crop_equals_torchvision(seed: int, height: int, width: int, resolution: int, flipped: bool) -> None:
    image = _image(seed, height, width)
    plan = crop.simple_random_crop(0, np.uint64(seed), height, width, resolution, 4)
    whole = with_shorter_side(Image.fromarray(image), resolution)
    padded = np.asarray(F.pad(whole, [4], padding_mode="reflect"))
    row, column = plan[6] + 4, plan[7] + 4
    want = padded[row : row + resolution, column : column + resolution]
    assert want.shape == (resolution, resolution, 3)
    view = _view(image, plan, resample.BICUBIC, flipped, resolution)
    np.testing.assert_array_equal(view, want[:, ::-1] if flipped else want)


@given(
    start=st.integers(0, 5),
    size=st.integers(1, 300),
    full=st.integers(1, 300),
    first=st.integers(-4, 50),
    count=st.integers(1, 60),
    kind=st.sampled_from(sorted(resample.FILTERS.values())),
)
def test_reach_is_what_the_outputs_see(start: int, size: int, full: int, first: int, count: int, kind: int) -> None:
    first = min(first, full - 1 + 4)
    count = max(1, min(count, full + 4 - first))
    if not (-first < full and 2 * (full - 1) - (first + count - 1) >= 0 and first + count > 0 and first < full):
        return
    axis = (start, 0.0, float(size), size, full, first)
    seen = [resample.taps(kind, axis, resample.shown(first + i, full))[:2] for i in range(count)]
    want = (start + min(low for low, _ in seen), start + max(high for _, high in seen))
    assert resample.reach(kind, axis, count) == want
