"""Boxes of random erasing against timm's own, and the noise that fills them."""

import random

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.data.random_erasing import RandomErasing

from deit_fast.kernels import erase

NUM_BOXES = 20_000


def _ours(probability: float, height: int, width: int, seed: int = 0, count: int = NUM_BOXES) -> np.ndarray:
    boxes = np.empty((count, 4), np.int64)
    erase.draw_boxes(np.uint64(seed), np.arange(count, dtype=np.uint64), probability, height, width, boxes)
    return boxes


class _Recorder:
    """Stands for an image: keeps the box that timm writes to."""

    def __setitem__(self, place: tuple[slice, slice, slice], value: torch.Tensor) -> None:
        _, rows, columns = place
        self.box = (rows.start, rows.stop, columns.start, columns.stop)


def _timms(probability: float, height: int, width: int, count: int = NUM_BOXES) -> np.ndarray:
    random.seed(0)
    eraser = RandomErasing(probability, mode="const", device="cpu")
    boxes = np.zeros((count, 4), np.int64)
    for row in boxes:
        image = _Recorder()
        image.box = (0, 0, 0, 0)
        eraser._erase(image, 3, height, width, torch.float32)
        row[:] = image.box
    return boxes


@pytest.mark.parametrize(("height", "width"), [(224, 224), (96, 160), (7, 5)])
def test_boxes_are_distributed_as_timms(height: int, width: int) -> None:
    ours, timms = _ours(0.6, height, width), _timms(0.6, height, width)
    for boxes in (ours, timms):
        fired = int((boxes[:, 1] > 0).sum())
        assert scipy.stats.binomtest(fired, NUM_BOXES, 0.6).pvalue > 1e-3 or height < 10  # small views: ten tries may fail
    for table in (lambda b: b.T, lambda b: [b[:, 1] - b[:, 0], b[:, 3] - b[:, 2], (b[:, 1] - b[:, 0]) * (b[:, 3] - b[:, 2])]):
        for mine, theirs in zip(table(ours), table(timms), strict=True):
            assert scipy.stats.ks_2samp(mine, theirs).pvalue > 1e-3


@given(seed=st.integers(0, 1000), height=st.integers(1, 300), width=st.integers(1, 300))
def test_boxes_lie_in_the_view(seed: int, height: int, width: int) -> None:
    y0, y1, x0, x1 = _ours(1.0, height, width, seed, 50).T
    assert ((y0 >= 0) & (y0 <= y1) & (y1 <= height)).all()
    assert ((x0 >= 0) & (x0 <= x1) & (x1 <= width)).all()


def test_probability_zero_erases_nothing_and_one_all() -> None:
    assert not _ours(0.0, 224, 224).any()
    assert (_ours(1.0, 224, 224)[:, 1] > 0).all()


@given(
    mode=st.sampled_from([erase.CONST, erase.RAND, erase.PIXEL]),
    y=st.integers(0, 4000),
    first=st.integers(0, 60),
    count=st.integers(1, 60),
)
def test_a_row_of_noise_is_its_values(mode: int, y: int, first: int, count: int) -> None:
    noise = np.full(124, np.nan, np.float32)
    erase.fill_noise(np.uint64(9), np.uint64(2**50 + 3), mode, y, first, first + count, noise)
    want = [erase.noise_value(np.uint64(9), np.uint64(2**50 + 3), mode, y, i // 3, i % 3) for i in range(first, first + count)]
    # vectorised or not, the arithmetic is the same
    np.testing.assert_array_equal(noise[first : first + count], np.array(want, np.float32))


def test_noise_of_each_mode() -> None:
    noise = np.empty((300, 300), np.float32)
    for mode, num_values in ((erase.CONST, 1), (erase.RAND, 3), (erase.PIXEL, 90_000)):
        for y in range(300):
            erase.fill_noise(np.uint64(0), np.uint64(1), mode, y, 0, 300, noise[y])
        assert len(np.unique(noise)) >= num_values * 0.98
        assert len(np.unique(noise)) <= num_values
    assert scipy.stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    # neighbours in both directions, and the channels of a pixel, have nothing to do with each other
    for other in (noise[1:, :-3], noise[:-1, 1:-2], noise[:-1, 2:-1], noise[:-1, 3:], noise[1:, 3:]):
        assert abs(np.corrcoef(noise[:-1, :-3].ravel(), other.ravel())[0, 1]) < 0.02


def test_colour_of_views_is_normal() -> None:
    colours = [[erase.noise_value(0, np.uint64(i), erase.RAND, 5, 6, c) for c in range(3)] for i in range(4000)]
    assert scipy.stats.kstest(np.ravel(colours), "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(np.array(colours), rowvar=False) - np.eye(3)).max() < 0.06
