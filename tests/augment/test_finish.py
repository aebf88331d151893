"""Normalisation, Mixup, CutMix and targets against timm's own functions, and the rule that copies are never mixed."""

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.data.mixup import mixup_target, rand_bbox

from deit_fast.augment import finish, rng

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
BOTH, ALWAYS = (0.8, 1.0), (1.0, 0.5)


def _mix(kind: int, seed: int = 0, count: int = 8, side: int = 16, repeats: int = 3) -> tuple[int, ...]:
    """The first drawn mix of a kind."""
    drawn = (finish.mixing(seed, np.uint64(i), count, side, side, repeats, BOTH, ALWAYS) for i in range(100))
    mix: tuple[int, ...] = next(mix for mix in drawn if mix[0] == kind and 0.1 < mix[1] < 0.9)
    return mix


def _views(count: int = 8, side: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


@pytest.mark.parametrize("kind", [finish.PLAIN, finish.MIXUP, finish.CUTMIX])
def test_images_equal_the_definition(kind: int) -> None:
    views = _views()
    mix = _mix(kind) if kind else (finish.PLAIN, 1.0, 0, 0, 0, 0, 0)
    images = np.empty(views.shape, np.float32)
    finish.normalize_and_mix(views, mix, MEAN, STD, images)

    normalised = (views / 255 - MEAN) / STD
    _, lam, shift, y0, y1, x0, x1 = mix
    partner = np.roll(normalised, -shift, axis=0)
    want = normalised.copy()
    if kind == finish.MIXUP:
        want = lam * normalised + (1 - lam) * partner
    elif kind == finish.CUTMIX:
        want[:, y0:y1, x0:x1] = partner[:, y0:y1, x0:x1]
    np.testing.assert_allclose(images, want, atol=2e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_targets_equal_timms_for_its_pairing(smoothing: float) -> None:
    # timm pairs i with B - 1 - i; with two samples a shift of one is the same pairing
    labels = np.array([3, 1])
    targets = np.empty((2, 5), np.float32)
    finish.soft_targets(labels, (finish.MIXUP, 0.3, 1, 0, 0, 0, 0), smoothing, targets)
    want = mixup_target(torch.from_numpy(labels), 5, lam=0.3, smoothing=smoothing)
    np.testing.assert_allclose(targets, want.numpy(), atol=1e-7)


@given(lam=st.floats(0, 1), seed=st.integers(0, 10_000), height=st.integers(2, 300), width=st.integers(2, 300))
def test_cutmix_box_equals_timms(lam: float, seed: int, height: int, width: int) -> None:
    np.random.seed(seed)  # noqa: NPY002 - timm draws from the global generator
    want = rand_bbox((1, 3, height, width), lam)
    np.random.seed(seed)  # noqa: NPY002
    centre_y, centre_x = np.random.randint(0, height), np.random.randint(0, width)  # noqa: NPY002
    assert finish.cutmix_box(lam, centre_y, centre_x, height, width) == want


@given(groups=st.integers(2, 40), tail=st.integers(0, 4), repeats=st.integers(1, 5), view_id=st.integers(0, 2**60))
def test_copies_of_an_image_are_never_mixed(groups: int, tail: int, repeats: int, view_id: int) -> None:
    # a rank's batch is a stretch of the stream a a a b b b c c c ..., which may begin and end inside a group
    stream = np.repeat(np.arange(groups + 2), repeats)
    for start in range(repeats):
        batch = stream[start : start + groups * repeats + tail % repeats]
        shift = finish.mixing(1, np.uint64(view_id), len(batch), 32, 32, repeats, BOTH, ALWAYS)[2]
        assert 0 < shift < len(batch)
        assert (batch != np.roll(batch, -shift)).all()


def test_mixing_is_drawn_as_asked() -> None:
    mixes = [finish.mixing(2, np.uint64(i), 64, 32, 32, 3, (0.8, 1.0), (0.7, 0.4)) for i in range(4000)]
    kinds = np.array([mix[0] for mix in mixes])
    assert scipy.stats.binomtest(int((kinds > 0).sum()), 4000, 0.7).pvalue > 1e-3
    mixed = kinds[kinds > 0]
    assert scipy.stats.binomtest(int((mixed == finish.CUTMIX).sum()), len(mixed), 0.4).pvalue > 1e-3
    lambdas = [mix[1] for mix in mixes if mix[0] == finish.MIXUP]
    assert scipy.stats.kstest(lambdas, scipy.stats.beta(0.8, 0.8).cdf).pvalue > 1e-3
    shifts = [mix[2] for mix in mixes if mix[0]]
    assert scipy.stats.chisquare(np.bincount(shifts, minlength=62)[3:62]).pvalue > 1e-3


def test_lambda_of_cutmix_is_the_share_that_stays() -> None:
    for i in range(300):
        kind, lam, _, y0, y1, x0, x1 = finish.mixing(2, np.uint64(i), 64, 32, 48, 3, (0.0, 1.0), (1.0, 0.5))
        assert kind == finish.CUTMIX
        assert lam == pytest.approx(1 - (y1 - y0) * (x1 - x0) / (32 * 48))


@pytest.mark.parametrize(("count", "alphas"), [(1, (0.8, 1.0)), (8, (0.0, 0.0))])
def test_nothing_to_mix(count: int, alphas: tuple[float, float]) -> None:
    assert finish.mixing(0, np.uint64(0), count, 32, 32, 3, alphas, ALWAYS)[:3] == (finish.PLAIN, 1.0, 0)


def test_mixing_follows_the_first_id_alone() -> None:
    first = rng.pack_view_ids(3, np.array([5]), np.array([1]))[0]
    assert finish.mixing(0, first, 8, 32, 32, 3, BOTH, ALWAYS) == finish.mixing(0, first, 8, 32, 32, 3, BOTH, ALWAYS)
    later = rng.pack_view_ids(4, np.array([5]), np.array([1]))[0]
    assert finish.mixing(0, first, 8, 32, 32, 3, BOTH, ALWAYS) != finish.mixing(0, later, 8, 32, 32, 3, BOTH, ALWAYS)
