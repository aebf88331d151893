"""Scales the number of cases that a study tries by the variable DEIT_FAST_TEST_SCALE, a share of all of them."""

from __future__ import annotations

import os

SCALE = float(os.environ.get("DEIT_FAST_TEST_SCALE", "0.1"))


def scaled(full: int, least: int = 1) -> int:
    """Number of cases to try in a study of `full` cases: at least `least`, and at most all."""
    return min(full, max(least, round(full * SCALE)))
