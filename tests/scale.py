"""How many cases of a study the tests try: a share of them, which the variable DEIT_FAST_TEST_SCALE sets; 1 is all of them."""

from __future__ import annotations

import os

SCALE = float(os.environ.get("DEIT_FAST_TEST_SCALE", "0.1"))


def scaled(full: int, least: int = 1) -> int:
    """Number of cases to try of a study of `full` cases: at least so many, and never more than all."""
    return min(full, max(least, round(full * SCALE)))
