"""Fixtures of all tests of predictions."""

from tests.tiny_runs import digits, finished_run

__all__ = ["digits", "finished_run"]
