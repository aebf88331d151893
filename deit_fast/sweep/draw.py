"""Draws the value of an option: a pure function of its distribution and a key, the same on every machine."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

from deit_fast.config import UserError
from deit_fast.options.files import plain
from deit_fast.options.values import Given, convert
from deit_fast.options.words import nearest, shown

KINDS = ("uniform", "log_uniform", "int_uniform", "choice")
_DIGITS = 4  # of a drawn number, which stands in names of folders

Draw = Callable[[str], Given]  # the value of an axis for a key


def draw_of(axis: str, given: Given) -> Draw:
    """Reads how an axis is drawn from `{KIND: [...]}` in a file. Raises UserError for anything else."""
    if not isinstance(given.value, dict) or len(given.value) != 1:
        got = shown(plain(given).value)
        raise UserError(f"{given.origin}: {axis}={got}: want how it is drawn, as in {{uniform: [0, 1]}}; of {', '.join(KINDS)}")
    ((kind, parameters),) = given.value.items()
    if kind not in KINDS:
        raise UserError(f"{parameters.origin}: {axis}: unknown way {shown(kind)} to draw; {nearest(kind, KINDS)}")
    values = parameters.value if isinstance(parameters.value, list) else []
    if kind == "choice":
        if not values:
            raise UserError(f"{parameters.origin}: {axis}: want choice: [VALUE, VALUE, ...]")
        return lambda key: values[int(_share(key, axis) * len(values))]
    low, high = _bounds(axis, kind, parameters, values)

    def draw(key: str) -> Given:
        share = _share(key, axis)
        if kind == "int_uniform":
            return Given(low + int(share * (high - low + 1)), parameters.origin)
        if kind == "log_uniform":
            number = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        else:
            number = low + share * (high - low)
        return Given(min(max(float(f"{number:.{_DIGITS}g}"), low), high), parameters.origin)

    return draw


def _bounds(axis: str, kind: str, given: Given, values: list[Given]) -> tuple[float, float]:
    hint, numbers = (int, "integers") if kind == "int_uniform" else (float, "numbers")
    try:
        low, high = (convert(hint, value) for value in values)
        if low < high and (kind != "log_uniform" or low > 0):
            return low, high
    except (ValueError, OverflowError):
        pass
    above = ", LOW above 0" if kind == "log_uniform" else ""
    got = shown(plain(given).value)
    raise UserError(f"{given.origin}: {axis}: {kind}={got}: want two {numbers} [LOW, HIGH], LOW < HIGH{above}")


def _share(key: str, axis: str) -> float:
    """A number from 0 up to, not including, 1, evenly distributed over keys."""
    return (int.from_bytes(hashlib.sha256(f"{key}/{axis}".encode()).digest()[:8], "big") >> 11) / 2**53
