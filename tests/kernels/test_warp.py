"""Affine operations against Pillow's, and against the scalar definitions to the bit."""

from __future__ import annotations

import itertools
import math

import numba
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from deit_fast.benchmarks.fidelity.references import REFERENCES
from deit_fast.kernels import operations, pixel
from deit_fast.kernels.affine import affine_map
from deit_fast.kernels.octets import PIXELS, QUAD
from deit_fast.kernels.operation_table import CODES
from deit_fast.kernels.rotation import rotation, round_to_15
from deit_fast.kernels.warp import CHANNELS, PAD
from tests.guarded import GuardedMemory

FILL = (255, 0, 140)
# magnitudes as timm draws them, and how far beyond them the tests go
SPANS = {"rotate": 30.0, "shear_x": 0.3, "shear_y": 0.3, "translate_x": 100.8, "translate_y": 100.8}
NAMES = st.sampled_from(sorted(SPANS))
SIZES = st.integers(1, 40)


def picture(seed: int, height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 8, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(float)
    return np.clip(smooth * 1.1 - 12 + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


def pillow(name: str, argument: float, image: np.ndarray, bicubic: bool) -> np.ndarray:
    resample = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    return np.asarray(REFERENCES[name].function(Image.fromarray(image), argument, resample=resample, fillcolor=FILL))


def ours(name: str, argument: float, image: np.ndarray, bicubic: bool) -> np.ndarray:
    views = np.stack([image, image, image])
    scratch = np.full(operations.scratch_bytes(*image.shape[:2]) + 64, 77, np.uint8)
    operations.apply(np.int32(CODES[name]), float(argument), bicubic, FILL, views[1], scratch[:-64])
    assert (scratch[-64:] == 77).all()
    np.testing.assert_array_equal(views[0], image)
    np.testing.assert_array_equal(views[2], image)
    return views[1]


@numba.njit
def by_definition(image, matrix, bicubic, fill):  # type: ignore[no-untyped-def]
    """Each pixel from its 16 neighbours by the functions of `pixel`, first between rows, then between columns."""
    height, width = image.shape[0], image.shape[1]
    out = np.empty_like(image)
    row = np.empty(4, np.float32)
    for y in range(height):
        for x in range(width):
            x_in = pixel.source_coordinate(matrix[0] * (x + 0.5), matrix[1] * (y + 0.5), matrix[2])
            y_in = pixel.source_coordinate(matrix[3] * (x + 0.5), matrix[4] * (y + 0.5), matrix[5])
            if not (0.0 <= x_in < width and 0.0 <= y_in < height):
                out[y, x, 0], out[y, x, 1], out[y, x, 2] = fill
                continue
            column, x_distance = pixel.split_coordinate(x_in)
            line, y_distance = pixel.split_coordinate(y_in)
            x_weights = pixel.neighbour_weights(x_distance, bicubic)
            y_weights = pixel.neighbour_weights(y_distance, bicubic)
            for channel in range(3):
                for i in range(4):
                    at = min(max(column - 1 + i, 0), width - 1)
                    a = image[min(max(line - 1, 0), height - 1), at, channel]
                    b = image[min(max(line, 0), height - 1), at, channel]
                    c = image[min(max(line + 1, 0), height - 1), at, channel]
                    d = image[min(max(line + 2, 0), height - 1), at, channel]
                    row[i] = pixel.interpolated(a, b, c, d, y_weights)
                out[y, x, channel] = pixel.clipped(pixel.interpolated(row[0], row[1], row[2], row[3], x_weights))
    return out


@given(name=NAMES, share=st.floats(-3.0, 3.0), bicubic=st.booleans(), seed=st.integers(0, 999), height=SIZES, width=SIZES)
@example(name="translate_x", share=0.0, bicubic=True, seed=0, height=1, width=1)
def test_within_one_level_of_pillow(name: str, share: float, bicubic: bool, seed: int, height: int, width: int) -> None:
    argument = share * SPANS[name]
    image = picture(seed, height, width)
    wanted = pillow(name, argument, image, bicubic).astype(int)
    assert np.abs(ours(name, argument, image, bicubic) - wanted).max() <= 1


@given(name=NAMES, share=st.floats(-3.0, 3.0), bicubic=st.booleans(), seed=st.integers(0, 999), height=SIZES, width=SIZES)
def test_equals_the_definition(name: str, share: float, bicubic: bool, seed: int, height: int, width: int) -> None:
    argument = share * SPANS[name]
    if name == "rotate" and argument % 90 == 0:
        argument += 1.0
    image = picture(seed, height, width)
    wanted = by_definition(image, affine_map(CODES[name], argument, height, width), bicubic, FILL)
    np.testing.assert_array_equal(ours(name, argument, image, bicubic), wanted)


@pytest.mark.parametrize("width", range(1, 10))
def test_a_narrow_rotation_touches_no_byte_behind_its_arrays(width: int) -> None:
    """Of as many columns as are made together, fewer, and more: view and scratch end where memory may not be read."""
    memory = GuardedMemory(1 << 13), GuardedMemory(1 << 15)
    for height, degrees in itertools.product((1, 2, 9), (-77.0, -5.0, 13.0, 181.0)):
        table_bytes = 4 * (13 * width + PIXELS)  # what rotations keep of columns: the last of their scratch
        size = (height + 2 * PAD) * (width + 2 * PAD) * QUAD + CHANNELS * (width + PIXELS) + -(-table_bytes // 8) * 8
        image, scratch = picture(1, height, width), memory[1].array(size, np.uint8, 77)
        view = memory[0].array(image.shape, np.uint8)
        for bicubic in (True, False):
            view[:] = image
            operations.apply(np.int32(CODES["rotate"]), degrees, bicubic, FILL, view, scratch)
            wanted = by_definition(image, rotation(degrees, height, width), bicubic, FILL)
            np.testing.assert_array_equal(view, wanted)


@pytest.mark.parametrize("bicubic", [True, False])
@pytest.mark.parametrize("name", SPANS)
def test_few_pixels_of_whole_views_differ(name: str, bicubic: bool) -> None:
    arguments = np.random.default_rng(CODES[name]).uniform(-1, 1, 8) * SPANS[name]
    num_different = 0
    for seed, argument in enumerate(arguments):
        image = picture(seed, 224, 224)
        wanted = pillow(name, float(argument), image, bicubic).astype(int)
        difference = np.abs(ours(name, float(argument), image, bicubic) - wanted)
        assert difference.max() <= 1
        num_different += int((difference > 0).sum())
    assert num_different < 1e-4 * len(arguments) * 224 * 224 * 3


@pytest.mark.parametrize("size", [(40, 40), (1, 1), (31, 44), (44, 31), (1, 6)])
@pytest.mark.parametrize("degrees", [0.0, 90.0, 180.0, 270.0, -90.0, -180.0, 360.0, 450.0, 45.0, -60.0])
def test_special_angles(degrees: float, size: tuple[int, int]) -> None:
    image = picture(3, *size)
    difference = np.abs(ours("rotate", degrees, image, True) - pillow("rotate", degrees, image, True).astype(int))
    assert difference.max() <= (0 if degrees % 90 == 0 else 1)


@pytest.mark.parametrize("name", SPANS)
def test_flat_images_stay_flat(name: str) -> None:
    for level in (0, 1, 77, 254, 255):
        image = np.full((30, 30, 3), level, np.uint8)
        out = ours(name, 0.37 * SPANS[name], image, True)
        filled = (out == np.array(FILL, np.uint8)).all(-1)
        assert (out[~filled] == level).all()


@pytest.mark.parametrize("argument", [1e6, -1e6, 1e300])
@pytest.mark.parametrize("name", sorted(set(SPANS) - {"rotate"}))
def test_far_away_is_all_fill(name: str, argument: float) -> None:
    assert (ours(name, argument, picture(0, 20, 30), True) == np.array(FILL, np.uint8)).all()


@given(st.floats(-1.0, 1.0))
def test_rounding_is_python_s(value: float) -> None:
    assert round_to_15(value) == round(value, 15)


def test_matrix_of_rotation_is_pillow_s() -> None:
    for degrees in np.random.default_rng(0).uniform(-360, 720, 3000):
        angle = -math.radians(degrees % 360.0)
        cosine, sine = round(math.cos(angle), 15), round(math.sin(angle), 15)
        assert rotation(degrees, 224, 160)[:2] == (cosine, sine)
        assert rotation(degrees, 224, 160)[3:5] == (round(-math.sin(angle), 15), cosine)
