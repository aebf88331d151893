"""The finishing pass against NumPy in float64, for every mix, erasing, precision and size; and against timm's Mixup."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from timm.data.mixup import Mixup

from deit_fast.kernels import erase, finish, mix
from deit_fast.kernels.round import BFLOAT16, FLOAT16, FLOAT32
from tests.scale import scaled

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
SEED = np.uint64(11)
COUNT = 7


def _views(height: int, width: int, count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, height, width, 3), dtype=np.uint8)


def _ids(count: int = COUNT) -> np.ndarray:
    return np.arange(count, dtype=np.uint64) + np.uint64(1 << 50)


def _drawn(kinds: dict[str, float], height: int, width: int, count: int = COUNT, mode: str = "elem") -> mix.Mix:
    usual = {"mixup": 0.8, "cutmix": 1.0, "probability": 1.0, "cutmix_probability": 0.5}
    how = mix.mixing(mode, repeats=1, **{**usual, **kinds})  # type: ignore[arg-type]
    drawn: mix.Mix = mix.mix_of(SEED, _ids(count), how, height, width)
    return drawn


def _boxes(height: int, width: int, probability: float, count: int = COUNT) -> np.ndarray:
    boxes = np.empty((count, 4), np.int64)
    erase.draw_boxes(SEED, _ids(count), probability, height, width, boxes)
    return boxes


def _finished(
    views: np.ndarray,
    mixed: mix.Mix,
    boxes: np.ndarray,
    mode: int,
    precision: int = FLOAT32,
    num_workers: int = 2,
    lead: int = 0,
) -> np.ndarray:
    """Images in float32, whatever the precision; lead: values by which they begin behind an aligned address."""
    dtype = np.float32 if precision == FLOAT32 else np.uint16
    memory = np.zeros(views.size + lead + 8, dtype)
    images = memory[lead : lead + views.size].reshape(views.shape)
    finish.finish_views(views, _ids(len(views)), SEED, mixed, boxes, mode, MEAN, STD, precision, num_workers, images)
    assert not memory[:lead].any()
    assert not memory[lead + views.size :].any()
    if precision == BFLOAT16:
        return torch.from_numpy(images.view(np.int16)).view(torch.bfloat16).float().numpy()
    return images.view(np.float16).astype(np.float32) if precision == FLOAT16 else images


def _reference(views: np.ndarray, mixed: mix.Mix, boxes: np.ndarray, mode: int) -> np.ndarray:
    """What the pass is to give, step by step in float64."""
    normalised = (views / 255 - MEAN) / STD
    for i, (y0, y1, x0, x1) in enumerate(boxes):
        for y, x, c in itertools.product(range(y0, y1), range(x0, x1), range(3)):
            normalised[i, y, x, c] = erase.noise_value(SEED, _ids(len(views))[i], mode, y, x, c)
    images = normalised.copy()
    for i, (partner, kind, lam, (y0, y1, x0, x1)) in enumerate(zip(*mixed, strict=True)):
        if kind == mix.MIXUP:
            images[i] = lam * normalised[i] + (1 - lam) * normalised[partner]
        elif kind == mix.CUTMIX:
            images[i, y0:y1, x0:x1] = normalised[partner, y0:y1, x0:x1]
    return images


@pytest.mark.parametrize("precision", [FLOAT32, FLOAT16, BFLOAT16])
@pytest.mark.parametrize("mode", list(erase.MODES))
@pytest.mark.parametrize("kinds", [{"probability": 0.0}, {"cutmix": 0.0}, {"mixup": 0.0}, {}])
def test_images_equal_the_definition(kinds: dict[str, float], mode: str, precision: int) -> None:
    views, mixed, boxes = _views(16, 21), _drawn(kinds, 16, 21), _boxes(16, 21, 0.5)
    assert (boxes[:, 1] > 0).any()
    assert (boxes[:, 1] == 0).any()
    images = _finished(views, mixed, boxes, erase.MODES[mode], precision)
    relative = {FLOAT32: 0, FLOAT16: 2.0**-11, BFLOAT16: 2.0**-8}[precision]
    np.testing.assert_allclose(images, _reference(views, mixed, boxes, erase.MODES[mode]), atol=1.2e-6, rtol=relative)


@settings(max_examples=scaled(60, 20))
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    lead=st.integers(0, 7),
    precision=st.sampled_from([FLOAT32, FLOAT16, BFLOAT16]),
    mode=st.sampled_from([erase.RAND, erase.PIXEL]),
)
def test_every_size_and_alignment(height: int, width: int, lead: int, precision: int, mode: int) -> None:
    views, mixed, boxes = _views(height, width), _drawn({}, height, width), _boxes(height, width, 0.8)
    images = _finished(views, mixed, boxes, mode, precision, lead=lead)
    relative = {FLOAT32: 0, FLOAT16: 2.0**-11, BFLOAT16: 2.0**-8}[precision]
    np.testing.assert_allclose(images, _reference(views, mixed, boxes, mode), atol=1.2e-6, rtol=relative)


def test_halves_are_the_rounded_floats() -> None:
    views, mixed, boxes = _views(30, 50), _drawn({}, 30, 50), _boxes(30, 50, 0.8)
    floats, halves, brains = (_finished(views, mixed, boxes, erase.PIXEL, precision) for precision in (0, FLOAT16, BFLOAT16))
    np.testing.assert_array_equal(halves, floats.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(brains, torch.from_numpy(floats).bfloat16().float().numpy())


@pytest.mark.parametrize("precision", [FLOAT32, FLOAT16])
def test_number_of_threads_makes_no_difference(precision: int) -> None:
    views, mixed, boxes = _views(24, 24, 33), _drawn({}, 24, 24, 33), _boxes(24, 24, 0.8, 33)
    one, *others = (_finished(views, mixed, boxes, erase.PIXEL, precision, num_workers) for num_workers in (1, 2, 3, 16))
    for other in others:
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
@pytest.mark.parametrize("mode", list(mix.MODES))
def test_images_and_targets_equal_timms_mixup_with_the_same_draws(
    mode: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # timm's pairing, i with B - 1 - i, and what we drew, handed to timm's own code
    count, height, width = 6, 20, 24
    views = _views(height, width, count)
    drawn = _drawn({"cutmix" if kind == "mixup" else "mixup": 0.0}, height, width, count)
    draws = {"batch": [0] * 6, "pair": [0, 1, 2, 2, 1, 0], "elem": range(6)}[mode]
    mixed = mix.Mix(np.arange(count)[::-1].copy(), *(values[list(draws)] for values in drawn[1:]))

    timms = Mixup(1.0, 1.0, mode=mode, label_smoothing=0.1, num_classes=7)
    use_cutmix = kind == "cutmix"
    boxes = iter(mixed.box)
    shares = iter(mixed.lam)
    monkeypatch.setattr(
        "timm.data.mixup.cutmix_bbox_and_lam", lambda *_, **__: (tuple(int(side) for side in next(boxes)), next(shares))
    )
    monkeypatch.setattr(timms, "_params_per_batch", lambda: (mixed.lam[0], use_cutmix))
    monkeypatch.setattr(timms, "_params_per_elem", lambda n: (mixed.lam[:n].astype(np.float64), np.full(n, use_cutmix)))
    normalised = torch.from_numpy((views / 255 - MEAN) / STD).permute(0, 3, 1, 2).contiguous()
    labels = np.array([0, 6, 2, 2, 5, 1])
    want_images, want_targets = timms(normalised, torch.from_numpy(labels))

    images = _finished(views, mixed, np.zeros((count, 4), np.int64), erase.CONST)
    np.testing.assert_allclose(images, want_images.permute(0, 2, 3, 1).numpy(), atol=1.2e-6)
    targets = np.empty((count, 7), np.float32)
    mix.soft_targets(labels, mixed.partner, mixed.lam, 0.1, targets)
    np.testing.assert_allclose(targets, want_targets.numpy(), atol=1e-6)


def test_single_values_equal_those_of_the_pass() -> None:
    """The scalar definitions, of which CUDA kernels are made."""

    @njit
    def value(level, mean, std):  # type: ignore[no-untyped-def]
        factor, offset = finish.factor_and_offset(mean, std)
        return finish.normalise(level, factor, offset)

    views = _views(4, 6)
    images = _finished(views, mix.unmixed(COUNT), np.zeros((COUNT, 4), np.int64), erase.CONST)
    for place in itertools.product(range(COUNT), range(4), range(6), range(3)):
        assert images[place] == value(views[place], MEAN[place[3]], STD[place[3]])


def test_images_of_another_shape_or_type_are_refused() -> None:
    views = _views(4, 4)
    wrong = (np.empty((COUNT, 4, 5, 3), np.float32), FLOAT32), (np.empty(views.shape, np.float32), FLOAT16)
    for images, precision in wrong:
        with pytest.raises(AssertionError):
            finish.finish_views(
                views, _ids(), SEED, mix.unmixed(COUNT), np.zeros((COUNT, 4), np.int64), 0, MEAN, STD, precision, 1, images
            )
