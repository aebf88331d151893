"""What happens to a pixel, over all levels that there are, against Pillow or exact arithmetic."""

from __future__ import annotations

from fractions import Fraction

import numba
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from deit_fast.kernels import pixel


@numba.njit
def blended_table(factor):  # type: ignore[no-untyped-def]
    table = np.empty((256, 256), np.int32)
    for degenerate in range(256):
        for level in range(256):
            table[degenerate, level] = pixel.blended(degenerate, level, factor)
    return table


@numba.njit
def lumas(colours):  # type: ignore[no-untyped-def]
    out = np.empty(len(colours), np.int32)
    for i in range(len(colours)):
        out[i] = pixel.luma(colours[i, 0], colours[i, 1], colours[i, 2])
    return out


@given(st.one_of(st.floats(0, 1), st.floats(-4, 6), st.floats(-1e6, 1e6)))
def test_blended_equals_pillow_for_all_pairs_of_levels(factor: float) -> None:
    degenerate, level = np.mgrid[:256, :256].astype(np.uint8)
    wanted = np.asarray(Image.blend(Image.fromarray(degenerate), Image.fromarray(level), factor))
    np.testing.assert_array_equal(blended_table(np.float32(factor)), wanted)


def test_luma_equals_pillow() -> None:
    colours = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3), dtype=np.uint8)
    colours[0, :3] = [[255, 255, 255], [0, 0, 0], [0, 0, 255]]
    np.testing.assert_array_equal(lumas(colours.reshape(-1, 3)), np.asarray(Image.fromarray(colours).convert("L")).ravel())


def test_smoothed_is_the_rounded_mean_with_the_centre_counted_five_times() -> None:
    for centre in (0, 1, 100, 254, 255):
        for nine in range(centre, 8 * 255 + centre + 1):
            assert pixel.smoothed(nine, centre) == (Fraction(nine + 4 * centre, 13) + Fraction(1, 2)).__floor__()


@pytest.mark.parametrize("bicubic", [True, False])
@given(distance=st.floats(0, 1, width=32), level=st.integers(0, 255))
def test_between_equal_levels_is_that_level(bicubic: bool, distance: float, level: int) -> None:
    weights = pixel.neighbour_weights(np.float32(distance), bicubic)
    assert pixel.interpolated(level, level, level, level, weights) == level


@given(distance=st.integers(0, 1 << 20), levels=st.tuples(*[st.integers(0, 255)] * 4))
def test_interpolated_is_cubic_convolution(distance: int, levels: tuple[int, int, int, int]) -> None:
    """Keys's kernel with a = -1, in exact arithmetic."""
    d = Fraction(distance, 1 << 20)
    a = -1

    def kernel(x: Fraction) -> Fraction:
        x = abs(x)
        if x <= 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * x**3 - 5 * a * x**2 + 8 * a * x - 4 * a

    wanted = sum(level * kernel(d + 1 - i) for i, level in enumerate(levels))
    weights = pixel.neighbour_weights(np.float32(float(d)), True)
    assert float(pixel.interpolated(*levels, weights)) == pytest.approx(float(wanted), abs=2e-4)


@given(distance=st.floats(0, 1, width=32), first=st.integers(0, 255), second=st.integers(0, 255))
def test_interpolated_is_linear(distance: float, first: int, second: int) -> None:
    weights = pixel.neighbour_weights(np.float32(distance), False)
    wanted = first + distance * (second - first)
    assert float(pixel.interpolated(9, first, second, 200, weights)) == pytest.approx(wanted, abs=1e-4)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 2.0, 2.45, 7.3])
def test_a_box_has_the_whole_weight_and_the_variance(sigma: float) -> None:
    """Three boxes have three times the variance of one, which is sigma squared; a box's weights are 1 together."""
    radius, weight, end_weight = (int(number) for number in pixel.box_weights(sigma))
    assert 0 <= (1 << 24) - (2 * radius + 1) * weight - 2 * end_weight <= 1
    inner = sum(2 * k * k * weight for k in range(1, radius + 1))
    variance = (inner + 2 * (radius + 1) ** 2 * end_weight) / (1 << 24)
    assert 3 * variance == pytest.approx(sigma**2, rel=1e-5, abs=1e-6)
