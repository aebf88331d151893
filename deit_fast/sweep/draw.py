"""Draws the value of an option: a pure function of its distribution and a key, the same on every machine."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

from deit_fast.config import UserError
from deit_fast.option_values import Given, nearest, plain, shown

KINDS = ("uniform", "log_uniform", "int_uniform", "choice")
_DIGITS = 4  # of a drawn number, which stands in names of folders


@dataclass(frozen=True)
class Draw:
    """Distribution of an axis: one of KINDS, and bounds or values."""

    axis: str
    kind: str
    values: list[Given]
    origin: str

    def at(self, key: str) -> Given:
        """The value for a key."""
        share = _uniform(f"{key}/{self.axis}")
        if self.kind == "choice":
            return self.values[int(share * len(self.values))]
        low, high = (bound.value for bound in self.values)
        if self.kind == "int_uniform":
            return Given(low + int(share * (high - low + 1)), self.origin)
        if self.kind == "log_uniform":
            number = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        else:
            number = low + share * (high - low)
        return Given(min(max(float(f"{number:.{_DIGITS}g}"), low), high), self.origin)


def _uniform(key: str) -> float:
    """A number from 0 up to, not including, 1, evenly distributed over keys."""
    return (int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") >> 11) / 2**53


def draw_of(axis: str, given: Given) -> Draw:
    """Reads the distribution of an axis from `{KIND: [...]}` in a file. Raises UserError for anything else."""
    if not isinstance(given.value, dict) or len(given.value) != 1:
        got = shown(plain(given).value)
        raise UserError(f"{given.origin}: {axis}={got}: want how it is drawn, as in {{uniform: [0, 1]}}; of {', '.join(KINDS)}")
    ((kind, behind),) = given.value.items()
    if kind not in KINDS:
        raise UserError(f"{behind.origin}: {axis}: unknown way {shown(kind)} to draw; {nearest(kind, KINDS)}")
    values = behind.value if isinstance(behind.value, list) else []
    if kind == "choice":
        if not values:
            raise UserError(f"{behind.origin}: {axis}: want choice: [VALUE, VALUE, ...]")
        return Draw(axis, kind, values, behind.origin)
    number = int if kind == "int_uniform" else (int, float)
    bounds = [value.value for value in values]
    is_right = len(bounds) == 2 and all(isinstance(bound, number) and not isinstance(bound, bool) for bound in bounds)
    if (
        not is_right
        or not all(map(math.isfinite, bounds))
        or not bounds[0] < bounds[1]
        or (kind == "log_uniform" and bounds[0] <= 0)
    ):
        above = ", LOW above 0" if kind == "log_uniform" else ""
        of = "integers" if kind == "int_uniform" else "numbers"
        raise UserError(
            f"{behind.origin}: {axis}: {kind}={shown(plain(behind).value)}: want two {of} [LOW, HIGH], LOW < HIGH{above}"
        )
    return Draw(axis, kind, values, behind.origin)
