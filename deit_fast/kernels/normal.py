"""Takes two random words, gives two standard normals in float32, in arithmetic that LLVM vectorises.

Box and Muller, Annals of Mathematical Statistics 29(2), 1958: radius sqrt(-2 ln u), angle uniform. Logarithm, sine and cosine
are polynomials, fitted here to the least maximal error; all else is +, *, sqrt, conversions and bits. So a device that
rounds as IEEE 754 wants gives the same number, and one that contracts a * b + c differs in the last bits.

Against Box-Muller in float64 of the same float32 uniform the absolute error is below 2e-6. The uniform has 31 bits, so the
largest normal is 6.7.
"""

from __future__ import annotations

import math

import numpy as np

from deit_fast.kernels.compiled import compiled

_HALF = np.float32(0.5)
_ONE = np.float32(1.0)
_LOG_2 = np.float32(math.log(2.0))

# ln(1 + x) = x - x**2 / 2 + x**3 p(x) on [sqrt(1/2) - 1, sqrt(2) - 1], relative error below 2.7e-7
_P0, _P1, _P2 = np.float32(0.3333424566664027), np.float32(-0.249832664050157), np.float32(0.19924506126939248)
_P3, _P4, _P5 = np.float32(-0.1713714016266253), np.float32(0.1602435644824702), np.float32(-0.10191646022165177)
# sin x = x s(x**2) and cos x = c(x**2) on [-pi / 4, pi / 4], absolute error below 1.3e-9 and 2.8e-8
_S0, _S1 = np.float32(0.9999999861793324), np.float32(-0.16666636754288103)
_S2, _S3 = np.float32(0.008331584606116826), np.float32(-0.00019462116963937098)
_C0, _C1 = np.float32(0.9999999724232954), np.float32(-0.4999985669577068)
_C2, _C3 = np.float32(0.041655026880872664), np.float32(-0.0013585908473585512)

_ROOT_HALF_BITS = np.int32(0x3F3504F3)  # of sqrt(1/2), where a mantissa begins to count as above 1
_MANTISSA_LENGTH = np.int32(23)
_UNIT = np.float32(2.0**-31)
_QUARTER_MASK = np.uint64((1 << 30) - 1)
_HALF_QUARTER = np.int32(1 << 29)
_RADIANS = np.float32(math.pi / 2 * 2.0**-30)
_SIGN = np.uint32(0x80000000)


@compiled(inlined=True)
def unit_of_word(word):  # type: ignore[no-untyped-def]
    """float32 in (0, 1] from a 32-bit word in uint64: its upper 31 bits, as float32 rounds them."""
    # through int32, which every vector unit converts
    return (np.float32(np.int32(word >> np.uint64(1))) + _HALF) * _UNIT


@compiled(inlined=True)
def logarithm(x):  # type: ignore[no-untyped-def]
    """Natural logarithm of a normal positive float32, to a relative error below 5e-7."""
    bits = np.float32(x).view(np.int32)
    exponent = np.int32(np.int32(bits - _ROOT_HALF_BITS) >> _MANTISSA_LENGTH)
    mantissa = np.int32(bits - np.int32(exponent << _MANTISSA_LENGTH)).view(np.float32)
    rest = mantissa - _ONE  # exact
    square = rest * rest
    tail = _P0 + rest * (_P1 + rest * (_P2 + rest * (_P3 + rest * (_P4 + rest * _P5))))
    return np.float32(exponent) * _LOG_2 + (rest - _HALF * square + square * rest * tail)


@compiled(inlined=True)
def normal_pair(first, second):  # type: ignore[no-untyped-def]
    """Two independent float32 standard normals from two 32-bit words in uint64.

    The first word gives the radius. The lower 30 bits of the second give an angle within a quarter of the circle, counted from
    its middle, (word mod 2**30 - 2**29 + 1/2) pi/2 / 2**30; its bits 31 and 30 are the signs.
    """
    # half of 2: the square root of one half that turns by an eighth of the circle
    radius = math.sqrt(-logarithm(unit_of_word(first)))
    steps = np.int32(np.int32(second & _QUARTER_MASK) - _HALF_QUARTER)
    angle = (np.float32(steps) + _HALF) * _RADIANS
    square = angle * angle
    sine = angle * (_S0 + square * (_S1 + square * (_S2 + square * _S3)))
    cosine = _C0 + square * (_C1 + square * (_C2 + square * _C3))
    return (
        _signed(radius * (cosine - sine), np.uint32(second)),
        _signed(radius * (cosine + sine), np.uint32(second << np.uint64(1))),
    )


@compiled(inlined=True)
def _signed(value, word):  # type: ignore[no-untyped-def]
    """A float32 of any sign with its sign bit turned where the word's highest bit is set."""
    return np.uint32(np.float32(value).view(np.uint32) ^ np.uint32(word & _SIGN)).view(np.float32)
