"""Each operation on a view against Pillow's, and batches against single views."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deit_fast.benchmarks.fidelity.references import REFERENCES
from deit_fast.kernels import operations
from deit_fast.kernels.operation_table import CODES, NOTHING

FILL = (124, 116, 104)
EXACT = [name for name, reference in REFERENCES.items() if not reference.moves_pixels]  # the others: test_warp


def arguments_of(name: str) -> st.SearchStrategy[float]:
    reference = REFERENCES[name]
    examples = st.sampled_from(reference.arguments)
    if reference.limits is None:
        return examples
    low, high = reference.limits
    if isinstance(low, int) and isinstance(high, int):
        return examples | st.integers(low, high)
    return examples | st.floats(max(low, 0.0), min(high, 1.0)) | st.floats(low, high)


def test_every_operation_has_a_reference() -> None:
    assert set(REFERENCES) == set(CODES)


def test_nothing_does_nothing() -> None:
    image = picture(0, 9, 7)
    np.testing.assert_array_equal(applied(NOTHING, 1.5, image), image)


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


def wanted_of(name: str, argument: float, image: np.ndarray) -> np.ndarray:
    return np.asarray(REFERENCES[name].function(Image.fromarray(image), argument))


@pytest.mark.parametrize("name", EXACT)
@given(data=st.data(), seed=st.integers(0, 10_000), height=st.integers(1, 40), width=st.integers(1, 40))
def test_equals_pillow(name: str, data: st.DataObject, seed: int, height: int, width: int) -> None:
    argument = data.draw(arguments_of(name))
    image = picture(seed, height, width)
    np.testing.assert_array_equal(applied(CODES[name], argument, image), wanted_of(name, argument, image))


@pytest.mark.parametrize("name", EXACT)
def test_equals_pillow_on_whole_views(name: str) -> None:
    rng = random.Random(name)
    low, high = REFERENCES[name].limits or (0, 0)
    is_whole = isinstance(low, int) and isinstance(high, int)
    for seed in range(6):
        argument = float(rng.randint(int(low), int(high))) if is_whole else rng.uniform(max(low, 0.0), min(high, 2.0))
        image = picture(seed, 224, 224)
        np.testing.assert_array_equal(applied(CODES[name], argument, image), wanted_of(name, argument, image))


@pytest.mark.parametrize("name", ["auto_contrast", "equalize", "contrast"])
@pytest.mark.parametrize("levels", [[7], [0, 255], [3, 4], [0, 0, 0, 0, 200]])
def test_few_levels(name: str, levels: list[int]) -> None:
    image = np.random.default_rng(1).choice(np.array(levels, np.uint8), (20, 19, 3))
    np.testing.assert_array_equal(applied(CODES[name], 1.5, image), wanted_of(name, 1.5, image))


def random_steps(seed: int, num_views: int, num_steps: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    drawn = rng.integers(NOTHING, len(CODES) + 1, (num_views, num_steps)).astype(np.int32)
    arguments = rng.uniform(0.1, 1.9, drawn.shape)
    spans = {
        "solarize": 60,
        "solarize_add": 60,
        "rotate": 10,
        "translate_x": 10,
        "translate_y": 10,
        "shear_x": 0.15,
        "shear_y": 0.15,
    }
    for name, span in spans.items():
        arguments[drawn == CODES[name]] *= span
    return drawn, arguments


@pytest.mark.parametrize("num_workers", [1, 2, 5])
@pytest.mark.parametrize("size", [(32, 32), (17, 29)])
def test_a_batch_equals_its_views_one_step_at_a_time(num_workers: int, size: tuple[int, int]) -> None:
    drawn, arguments = random_steps(2, 60, 3)
    assert set(drawn.ravel().tolist()) == {NOTHING, *CODES.values()}
    views = np.stack([picture(seed, *size) for seed in range(len(drawn))])
    wanted = views.copy()
    for view, some_codes, some_arguments in zip(wanted, drawn, arguments, strict=True):
        for code, argument in zip(some_codes, some_arguments, strict=True):
            view[:] = applied(int(code), float(argument), view)
    scratch = np.stack([dirty_scratch(*size)[:-64] for _ in range(num_workers)])
    operations.apply_all(drawn, arguments, True, FILL, views, scratch)
    np.testing.assert_array_equal(views, wanted)
