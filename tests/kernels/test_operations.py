"""Each operation on a view against timm's on a Pillow image, and batches against single views."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
import pytest
import timm.data.auto_augment as timm_operations
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from deit_fast.benchmarks.fidelity.older_pillow import posterized
from deit_fast.kernels import operation_codes as codes
from deit_fast.kernels import operations

FILL = (124, 116, 104)
AFFINE = (codes.ROTATE, codes.SHEAR_X, codes.SHEAR_Y, codes.TRANSLATE_X, codes.TRANSLATE_Y)
FACTORS = st.one_of(st.sampled_from([0.0, 0.1, 1.0, 1.9]), st.floats(0.0, 1.0), st.floats(-3.0, 5.0))

Reference = Callable[[Image.Image, float], Image.Image]
EXACT: dict[str, tuple[int, st.SearchStrategy[float], Reference]] = {
    "nothing": (codes.NOTHING, st.just(0.0), lambda image, _: image),
    "auto_contrast": (codes.AUTO_CONTRAST, st.just(0.0), lambda image, _: timm_operations.auto_contrast(image)),
    "equalize": (codes.EQUALIZE, st.just(0.0), lambda image, _: timm_operations.equalize(image)),
    "invert": (codes.INVERT, st.just(0.0), lambda image, _: timm_operations.invert(image)),
    "posterize": (codes.POSTERIZE, st.integers(0, 8), lambda image, x: posterized(image, int(x))),
    "solarize": (codes.SOLARIZE, st.integers(0, 256), lambda image, x: timm_operations.solarize(image, int(x))),
    "solarize_add": (codes.SOLARIZE_ADD, st.integers(0, 255), lambda image, x: timm_operations.solarize_add(image, int(x))),
    "color": (codes.COLOR, FACTORS, lambda image, x: timm_operations.color(image, x)),
    "contrast": (codes.CONTRAST, FACTORS, lambda image, x: timm_operations.contrast(image, x)),
    "brightness": (codes.BRIGHTNESS, FACTORS, lambda image, x: timm_operations.brightness(image, x)),
    "sharpness": (codes.SHARPNESS, FACTORS, lambda image, x: timm_operations.sharpness(image, x)),
    "grey": (codes.GREY, st.just(0.0), lambda image, _: image.convert("L").convert("RGB")),
    "blur": (codes.BLUR, st.floats(0.0, 4.0), lambda image, x: image.filter(ImageFilter.GaussianBlur(radius=x))),
}


def picture(seed: int, height: int, width: int) -> np.ndarray:
    """A smooth image with noise, uint8; its contrast, and so the levels that occur, differ with the seed."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    noisy = 128 + (smooth - 128) * rng.uniform(0.0, 1.5) + rng.normal(0, rng.uniform(0.0, 20.0), (height, width, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def dirty_scratch(height: int, width: int) -> np.ndarray:
    """Scratch with what is left of other work in it, and some bytes after it that must stay as they are."""
    return np.random.default_rng(0).integers(0, 256, operations.scratch_bytes(height, width) + 64, dtype=np.uint8)


def applied(code: int, argument: float, image: np.ndarray, *, bicubic: bool = True) -> np.ndarray:
    """One operation on the middle one of three views; asserts that nothing beyond the view and the scratch is written."""
    views = np.stack([image, image, image])
    scratch = dirty_scratch(*image.shape[:2])
    end = len(scratch) - 64
    guard = scratch[end:].copy()
    operations.apply(np.int32(code), float(argument), bicubic, FILL, views[1], scratch[:end])
    np.testing.assert_array_equal(views[0], image)
    np.testing.assert_array_equal(views[2], image)
    np.testing.assert_array_equal(scratch[end:], guard)
    return views[1]


@pytest.mark.parametrize("name", list(EXACT))
@given(data=st.data(), seed=st.integers(0, 10_000), height=st.integers(1, 40), width=st.integers(1, 40))
def test_equals_pillow(name: str, data: st.DataObject, seed: int, height: int, width: int) -> None:
    code, arguments, reference = EXACT[name]
    argument = data.draw(arguments)
    image = picture(seed, height, width)
    wanted = np.asarray(reference(Image.fromarray(image), argument))
    np.testing.assert_array_equal(applied(code, argument, image), wanted)


@pytest.mark.parametrize("name", list(EXACT))
def test_equals_pillow_on_whole_views(name: str) -> None:
    code, _, reference = EXACT[name]
    rng = random.Random(name)
    for seed in range(6):
        argument = rng.uniform(0.0, 2.0) if code >= codes.COLOR else float(rng.randrange(9))
        image = picture(seed, 224, 224)
        wanted = np.asarray(reference(Image.fromarray(image), argument))
        np.testing.assert_array_equal(applied(code, argument, image), wanted)


@pytest.mark.parametrize("code", [codes.AUTO_CONTRAST, codes.EQUALIZE, codes.CONTRAST])
@pytest.mark.parametrize("levels", [[7], [0, 255], [3, 4], [0, 0, 0, 0, 200]])
def test_few_levels(code: int, levels: list[int]) -> None:
    image = np.random.default_rng(1).choice(np.array(levels, np.uint8), (20, 19, 3))
    reference = next(reference for other, _, reference in EXACT.values() if other == code)
    np.testing.assert_array_equal(applied(code, 1.5, image), np.asarray(reference(Image.fromarray(image), 1.5)))


def random_steps(seed: int, num_views: int, num_steps: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    drawn = rng.integers(0, codes.NUM_CODES, (num_views, num_steps)).astype(np.int32)
    arguments = rng.uniform(0.1, 1.9, drawn.shape)
    arguments[np.isin(drawn, [codes.SOLARIZE, codes.SOLARIZE_ADD])] *= 60
    arguments[np.isin(drawn, [codes.ROTATE, codes.TRANSLATE_X, codes.TRANSLATE_Y])] *= 10
    arguments[np.isin(drawn, [codes.SHEAR_X, codes.SHEAR_Y])] *= 0.15
    return drawn, arguments


@pytest.mark.parametrize("num_workers", [1, 2, 5])
@pytest.mark.parametrize("size", [(32, 32), (17, 29)])
def test_a_batch_equals_its_views_one_step_at_a_time(num_workers: int, size: tuple[int, int]) -> None:
    drawn, arguments = random_steps(2, 60, 3)
    assert set(drawn.ravel().tolist()) == set(range(codes.NUM_CODES))
    views = np.stack([picture(seed, *size) for seed in range(len(drawn))])
    wanted = views.copy()
    for view, some_codes, some_arguments in zip(wanted, drawn, arguments, strict=True):
        for code, argument in zip(some_codes, some_arguments, strict=True):
            view[:] = applied(int(code), float(argument), view)
    scratch = np.stack([dirty_scratch(*size)[:-64] for _ in range(num_workers)])
    operations.apply_all(drawn, arguments, True, FILL, views, scratch)
    np.testing.assert_array_equal(views, wanted)
