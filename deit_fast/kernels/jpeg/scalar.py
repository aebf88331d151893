"""A JPEG's numbers one at a time, bit for bit as the vectors of `idct` and `colour` make them, for devices."""

from __future__ import annotations

import numpy as np

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg import idct
from deit_fast.kernels.jpeg.colour import (
    BLUE_OF_CB,
    GREEN_OF_CB,
    GREEN_OF_CR,
    RED_OF_CR,
)

_FRACTION_BITS = np.int32(idct.FRACTION_BITS)
COLUMN_SHIFT = np.int32(idct.FRACTION_BITS - idct.PASS_BITS)
ROW_SHIFT = np.int32(idct.FRACTION_BITS + idct.PASS_BITS + 3)
_0_541 = np.int32(idct.C_0_541)
_2_OF_2, _6_OF_2 = np.int32(idct.C_0_541 + idct.C_0_765), np.int32(idct.C_0_541 - idct.C_1_847)
_Z3_FIRST, _Z3_SECOND = np.int32(idct.C_1_175 - idct.C_1_961), np.int32(idct.C_1_175)
_Z4_FIRST, _Z4_SECOND = np.int32(idct.C_1_175), np.int32(idct.C_1_175 - idct.C_0_390)
_7_OF_0, _1_OF_0 = np.int32(-idct.C_0_899), np.int32(idct.C_1_501 - idct.C_0_899)
_5_OF_1, _3_OF_1 = np.int32(-idct.C_2_562), np.int32(idct.C_3_072 - idct.C_2_562)
_5_OF_2, _3_OF_2 = np.int32(idct.C_2_053 - idct.C_2_562), np.int32(-idct.C_2_562)
_7_OF_3, _1_OF_3 = np.int32(idct.C_0_298 - idct.C_0_899), np.int32(-idct.C_0_899)
_LARGE = np.int32(idct.LARGE)
_CENTRE = np.int32(128)
_16 = np.int32(16)
_HALF = np.int32(1 << 15)


@compiled(inlined=True)
def _sum16(a, b):  # type: ignore[no-untyped-def]
    """The sum of two numbers, which wraps at 16 bits."""
    return np.int32(np.int16(np.int32(a + b)))


@compiled(inlined=True)
def _two(a, x, b, y):  # type: ignore[no-untyped-def]
    return np.int32(np.int32(a * x) + np.int32(b * y))


@compiled(inlined=True)
def dequantised(coefficient, factor):  # type: ignore[no-untyped-def]
    """int32 product, wrapped at 16 bits, of two int16."""
    return np.int32(np.int16(np.int32(np.int32(coefficient) * np.int32(factor))))


@compiled(inlined=True)
def is_too_large(product):  # type: ignore[no-untyped-def]
    """Whether no sound JPEG has such a dequantised coefficient in the first row of a block; `idct` looks at these alone."""
    return not (-_LARGE <= product < _LARGE)


@compiled(inlined=True)
def _pair(even, odd, shift):  # type: ignore[no-untyped-def]
    half = np.int32(np.int32(1) << np.int32(shift - 1))
    total, difference = np.int32(np.int32(even + odd) + half), np.int32(np.int32(even - odd) + half)
    return np.int32(total >> shift), np.int32(difference >> shift)


@compiled(inlined=True)
def transformed(x0, x1, x2, x3, x4, x5, x6, x7, shift):  # type: ignore[no-untyped-def]
    """`idct`'s one-dimensional transform of eight int32 in the range of int16, without the lowest `shift` bits."""
    even0 = np.int32(_sum16(x0, x4) << _FRACTION_BITS)
    even1 = np.int32(_sum16(x0, -x4) << _FRACTION_BITS)
    turned0 = _two(x2, _0_541, x6, _6_OF_2)
    turned1 = _two(x2, _2_OF_2, x6, _0_541)
    first, second = _sum16(x7, x3), _sum16(x5, x1)
    z3 = _two(first, _Z3_FIRST, second, _Z3_SECOND)
    z4 = _two(first, _Z4_FIRST, second, _Z4_SECOND)
    y0, y7 = _pair(np.int32(even0 + turned1), np.int32(_two(x7, _7_OF_0, x1, _1_OF_0) + z4), shift)
    y1, y6 = _pair(np.int32(even1 + turned0), np.int32(_two(x5, _5_OF_1, x3, _3_OF_1) + z3), shift)
    y2, y5 = _pair(np.int32(even1 - turned0), np.int32(_two(x5, _5_OF_2, x3, _3_OF_2) + z4), shift)
    y3, y4 = _pair(np.int32(even0 - turned1), np.int32(_two(x7, _7_OF_3, x1, _1_OF_3) + z3), shift)
    return y0, y1, y2, y3, y4, y5, y6, y7


@compiled(inlined=True)
def saturated(value):  # type: ignore[no-untyped-def]
    """int32 in the range of int16."""
    return np.int32(min(max(value, np.int32(-32768)), np.int32(32767)))


@compiled(inlined=True)
def clipped(value):  # type: ignore[no-untyped-def]
    """int32 0 to 255."""
    return np.int32(min(max(value, np.int32(0)), np.int32(255)))


@compiled(inlined=True)
def level_of(value):  # type: ignore[no-untyped-def]
    """The level, int32 0 to 255, of a result of the second transform."""
    return clipped(np.int32(value + _CENTRE))


@compiled(inlined=True)
def rgb_of(y, cb, cr):  # type: ignore[no-untyped-def]
    """Red, green and blue, int32 0 to 255, from int32: luma, and chroma less 128."""
    red = np.int32(y + cr + np.int32(np.int32(np.int32(np.int32(cr + cr) * RED_OF_CR) >> _16) + np.int32(1) >> np.int32(1)))
    blue = np.int32(
        y + cb + cb + np.int32(np.int32(np.int32(np.int32(cb + cb) * BLUE_OF_CB) >> _16) + np.int32(1) >> np.int32(1))
    )
    difference = np.int32(np.int32(_two(cb, GREEN_OF_CB, cr, GREEN_OF_CR) + _HALF) >> _16)
    return clipped(red), clipped(np.int32(y - cr + difference)), clipped(blue)
