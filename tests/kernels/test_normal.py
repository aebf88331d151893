"""Normals against Box-Muller in float64, and against SciPy's normal distribution."""

import numpy as np
import scipy.stats
from numba import njit

from deit_fast.kernels import rng
from deit_fast.kernels.normal import logarithm, normal_pair, unit_of_word


@njit
def pairs_of(first: np.ndarray, second: np.ndarray, pairs: np.ndarray) -> None:
    for i in range(len(first)):
        pairs[i] = normal_pair(first[i], second[i])


@njit
def many_normals(count: int) -> np.ndarray:
    drawn = np.empty((count, 4), np.float32)
    for i in range(count):
        drawn[i] = rng.normals_at(np.uint64(7), np.uint64(i >> 12), rng.NOISE, i & 63, (i >> 6) & 63)
    return drawn


def test_pairs_equal_box_and_muller_in_float64() -> None:
    first, second = np.random.default_rng(0).integers(0, 2**32, (2, 300_000), dtype=np.uint64)
    ends = np.array([0, 1, 2, 3, 2**31 - 1, 2**31, 2**32 - 2, 2**32 - 1], np.uint64)
    first[: len(ends)] = ends
    second[len(ends) : 2 * len(ends)] = ends
    pairs = np.empty((len(first), 2), np.float32)
    pairs_of(first, second, pairs)

    uniform = (np.float32(first >> np.uint64(1)) + np.float32(0.5)) * np.float32(2.0**-31)
    radius = np.sqrt(-2 * np.log(uniform.astype(np.float64)))
    angle = ((second & np.uint64(2**30 - 1)).astype(np.float64) + 0.5) / 2**30 * (np.pi / 2)
    sign_x, sign_y = (np.where(second >> np.uint64(bit) & np.uint64(1), -1, 1) for bit in (31, 30))
    want = np.stack([sign_x * radius * np.cos(angle), sign_y * radius * np.sin(angle)], 1)
    assert np.abs(pairs - want).max() < 2e-6


def test_logarithm() -> None:
    # what every uniform can be: 2**-32 to 1, and the two sides of where the mantissa begins anew
    values = np.exp(np.random.default_rng(1).uniform(-22, 0, 3000)).astype(np.float32)
    values = np.concatenate(
        [values, np.nextafter(np.float32(0.5**0.5), [np.float32(0), np.float32(1)]), [np.float32(1), np.float32(1 - 2**-24)]]
    )
    got = np.array([logarithm(value) for value in values], np.float64)
    np.testing.assert_allclose(got, np.log(values.astype(np.float64)), rtol=5e-7)


def test_uniform_of_a_radius_is_never_zero() -> None:
    assert unit_of_word(np.uint64(0)) == 2.0**-32
    assert unit_of_word(np.uint64(2**32 - 1)) == 1


def test_normals_are_normal_and_independent() -> None:
    drawn = many_normals(500_000)
    values = drawn.ravel().astype(np.float64)
    assert scipy.stats.kstest(values, "norm").pvalue > 1e-3
    # moments, within five of their standard deviations
    for power, want, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((values**power).mean() - want) < 5 * np.sqrt(variance / len(values))
    for sigmas in (2, 3, 4, 4.5, 5):
        for tail in (values > sigmas, values < -sigmas):
            assert scipy.stats.binomtest(int(tail.sum()), len(values), scipy.stats.norm.sf(sigmas)).pvalue > 1e-4
    for table in (drawn, drawn**2):
        assert np.abs(np.corrcoef(table, rowvar=False) - np.eye(4)).max() < 0.01


def test_a_seed_means_the_same_noise_for_ever() -> None:
    want = [-0.2087248, -1.2681155, -1.0563873, -0.8840759]
    np.testing.assert_allclose(rng.normals(3, 12345, rng.NOISE, 2), want, atol=2e-6)
