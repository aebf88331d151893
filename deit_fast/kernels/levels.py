"""How a magnitude of a policy becomes the argument of an operation.

The functions and their constants are those of timm 1.0.31 (timm/data/auto_augment.py, LEVEL_TO_ARG). Each gives a float64, and
names what it needs of: level, the magnitude over 10, so 0 to 1 as a rule; sign, 1 or -1, at random; uniform, on [0, 1), for
what is random itself; height and width of the view.
"""

from __future__ import annotations

import numba

# becomes part of `policy.argument_of` before that is compiled: one by one, they took 1.5 s longer
level_function = numba.njit(nogil=True, inline="always")

_LOWEST_BLUR, _HIGHEST_BLUR = 0.1, 2.0


@level_function
def no_argument():  # type: ignore[no-untyped-def]
    return 0.0


@level_function
def degrees(level, sign):  # type: ignore[no-untyped-def]
    return sign * level * 30.0


@level_function
def factor(level):  # type: ignore[no-untyped-def]
    return level * 1.8 + 0.1


@level_function
def factor_increasing(level, sign):  # type: ignore[no-untyped-def]
    """Increasing: greater magnitudes change more."""
    return max(0.1, 1.0 + sign * level * 0.9)


@level_function
def shear(level, sign):  # type: ignore[no-untyped-def]
    return sign * level * 0.3


@level_function
def columns(level, sign, width):  # type: ignore[no-untyped-def]
    return sign * level * 0.45 * width


@level_function
def rows(level, sign, height):  # type: ignore[no-untyped-def]
    return sign * level * 0.45 * height


@level_function
def bits(level):  # type: ignore[no-untyped-def]
    return _bits_within(int(level * 4.0))


@level_function
def bits_increasing(level):  # type: ignore[no-untyped-def]
    return _bits_within(4 - int(level * 4.0))


@level_function
def bits_original(level):  # type: ignore[no-untyped-def]
    return _bits_within(4 + int(level * 4.0))


@level_function
def _bits_within(number):  # type: ignore[no-untyped-def]
    """Magnitudes above 10 leave the range; Pillow then does what it does at its end."""
    return float(min(max(number, 0), 8))


@level_function
def threshold(level):  # type: ignore[no-untyped-def]
    return float(min(256, int(level * 256.0)))


@level_function
def threshold_increasing(level):  # type: ignore[no-untyped-def]
    return float(256 - min(256, int(level * 256.0)))


@level_function
def addend(level):  # type: ignore[no-untyped-def]
    return float(min(128, int(level * 110.0)))


@level_function
def greyness(level):  # type: ignore[no-untyped-def]
    return 0.5 - 0.5 * min(level, 1.0)  # timm: 1 - (0.5 + 0.5 level)


@level_function
def sigma(level):  # type: ignore[no-untyped-def]
    return _LOWEST_BLUR + (_HIGHEST_BLUR - _LOWEST_BLUR) * min(level, 1.0)


@level_function
def sigma_random(level, uniform):  # type: ignore[no-untyped-def]
    return _LOWEST_BLUR + uniform * (_HIGHEST_BLUR * min(level, 1.0) - _LOWEST_BLUR)
