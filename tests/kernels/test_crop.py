"""Random crops against timm's own drawing, evaluation crops against torchvision's arithmetic."""

import random

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from timm.data.transforms import RandomResizedCropAndInterpolation

from deit_fast.kernels import crop

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)


@given(
    view_id=st.integers(0, 2**63 - 1), height=st.integers(1, 3000), width=st.integers(1, 3000), resolution=st.integers(1, 512)
)
def test_random_crop_lies_in_the_image(view_id: int, height: int, width: int, resolution: int) -> None:
    plan = crop.random_resized_crop(3, np.uint64(view_id), height, width, SCALE, RATIO, resolution)
    top, left, crop_height, crop_width, *rest = plan
    assert 0 <= top <= top + crop_height <= height
    assert 0 <= left <= left + crop_width <= width
    assert crop_height >= 1
    assert crop_width >= 1
    assert rest == [resolution, resolution, 0, 0]


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 120), (64, 64)])
def test_random_crop_is_distributed_as_timms(height: int, width: int) -> None:
    image = Image.new("RGB", (width, height))
    random.seed(0)
    timms = np.array([RandomResizedCropAndInterpolation.get_params(image, SCALE, RATIO) for _ in range(4000)])
    ours = np.array([crop.random_resized_crop(0, np.uint64(i), height, width, SCALE, RATIO, 224)[:4] for i in range(4000)])
    for part in range(4):
        assert scipy.stats.ks_2samp(ours[:, part], timms[:, part]).pvalue > 1e-3


@pytest.mark.parametrize(("height", "width", "want"), [(10, 1000, (0, 493, 10, 13)), (1000, 10, (493, 0, 13, 10))])
def test_random_crop_of_a_strip_falls_back_to_its_centre(height: int, width: int, want: tuple[int, ...]) -> None:
    # ten tries fail on most draws; the fallback is the centred box with an aspect ratio at the end of the range
    plans = [crop.random_resized_crop(0, np.uint64(i), height, width, SCALE, RATIO, 224)[:4] for i in range(50)]
    assert want in plans


@given(height=st.integers(1, 2000), width=st.integers(1, 2000), resolution=st.integers(1, 384))
def test_centre_crop_lies_in_the_resized_image(height: int, width: int, resolution: int) -> None:
    resized = int(resolution / 0.875)
    *_, full_height, full_width, row, column = crop.resized_centre_crop(height, width, resized, resolution)
    assert min(full_height, full_width) == resized
    assert 0 <= row <= full_height - resolution
    assert 0 <= column <= full_width - resolution


def test_flip_probability() -> None:
    flipped = sum(crop.is_flipped(0, np.uint64(i), 0.3) for i in range(4000))
    assert scipy.stats.binomtest(int(flipped), 4000, 0.3).pvalue > 1e-3
    assert not any(crop.is_flipped(0, np.uint64(i), 0.0) for i in range(100))
    assert all(crop.is_flipped(0, np.uint64(i), 1.0) for i in range(100))
