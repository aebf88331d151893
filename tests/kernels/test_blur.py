"""The Gaussian blur against Pillow's, and as a blur."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from deit_fast.kernels.blur import blur, blur_bytes


def blurred(image: np.ndarray, sigma: float) -> np.ndarray:
    out, scratch = image.copy(), np.full(blur_bytes(*image.shape[:2]), 99, np.uint8)
    blur(out, float(sigma), scratch)
    return out


def pillow(image: np.ndarray, sigma: float) -> np.ndarray:
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius=sigma)))


@given(
    sigma=st.one_of(st.floats(0.0, 2.6), st.floats(0.0, 60.0)),
    seed=st.integers(0, 999),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
@pytest.mark.slow
def test_equals_pillow(sigma: float, seed: int, height: int, width: int) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    np.testing.assert_array_equal(blurred(image, sigma), pillow(image, sigma))


@pytest.mark.parametrize("sigma", [0.1, 0.7, 1.4142, 2.0, 2.449, 2.45, 30.0])
def test_equals_pillow_on_whole_views(sigma: float) -> None:
    image = np.random.default_rng(5).integers(0, 256, (224, 225, 3), dtype=np.uint8)
    np.testing.assert_array_equal(blurred(image, sigma), pillow(image, sigma))


def test_a_point_spreads_by_the_standard_deviation() -> None:
    image = np.zeros((41, 41, 3), np.uint8)
    image[20, 20] = 255
    spread = blurred(image, 1.5)[..., 0].astype(float)
    offsets = np.arange(41) - 20
    assert np.sqrt((spread.sum(0) * offsets**2).sum() / spread.sum()) == pytest.approx(1.5, abs=0.1)
    assert np.sqrt((spread.sum(1) * offsets**2).sum() / spread.sum()) == pytest.approx(1.5, abs=0.1)
