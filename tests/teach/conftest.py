"""Fixtures of the small runs."""

from tests.tiny_runs import digits, tiny_run

__all__ = ["digits", "tiny_run"]
