"""float16 against NumPy's rounding, bfloat16 against PyTorch's, for every kind of number."""

import numba
import numpy as np
import pytest
import torch
from numba import njit

from deit_fast.kernels import round as rounding


@njit
def halves_by_integers(values: np.ndarray, bits: np.ndarray) -> None:
    for i in range(len(values)):
        bits[i] = rounding.half_bits_by_integers(values[i])


def _values() -> np.ndarray:
    """Every float16 and what lies around the middle between two, all magnitudes of float32, and numbers as images have."""
    generator = np.random.default_rng(0)
    halves = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
    halves = np.sort(halves[np.isfinite(halves)])
    middles = (halves[1:] + halves[:-1]) / 2
    around = [np.nextafter(middles, np.float32(towards)) for towards in (-np.inf, np.inf)]
    bits = (
        generator.integers(0, 0x7F800000, 300_000, dtype=np.uint32) | generator.integers(0, 2, 300_000, dtype=np.uint32) << 31
    )
    above = np.nextafter(np.float32(2**-25), np.float32(1))
    limits = np.array([65504, 65519.99, 65520, -65520, 1e38, 2**-24, 2**-25, above], np.float32)
    images = generator.normal(0, 2, 300_000).astype(np.float32)
    return np.concatenate([halves, middles, *around, bits.view(np.float32), limits, images])


def _rounded(values: np.ndarray, precision: int) -> np.ndarray:
    bits = np.empty(len(values), np.uint16)
    rounding.round_row(values, precision, bits)
    return bits


def test_float16_is_rounded_as_numpy_does() -> None:
    values = _values()
    with np.errstate(over="ignore"):
        want = values.astype(np.float16).view(np.uint16)
    np.testing.assert_array_equal(_rounded(values, rounding.FLOAT16), want)
    by_integers = np.empty(len(values), np.uint16)
    halves_by_integers(values, by_integers)
    np.testing.assert_array_equal(by_integers, want)


def test_bfloat16_is_rounded_as_pytorch_does() -> None:
    values = _values()
    want = torch.from_numpy(values).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(_rounded(values, rounding.BFLOAT16), want)


@pytest.mark.parametrize("length", [1, 2, 3, 15, 17, 63, 67])
@pytest.mark.parametrize("precision", [rounding.FLOAT16, rounding.BFLOAT16])
def test_every_length_is_rounded_alike(length: int, precision: int) -> None:
    values = np.random.default_rng(length).normal(size=67).astype(np.float32)
    np.testing.assert_array_equal(_rounded(values[:length].copy(), precision), _rounded(values, precision)[:length])


def test_other_processors_get_the_integer_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr(numba.config, "CPU_NAME", "generic")
    for features, has in ((None, False), ("+avx2", False), ("+avx2,+f16c", True)):
        monkeypatch.setattr(numba.config, "CPU_FEATURES", features)
        assert rounding._has_float16_instructions() == has
