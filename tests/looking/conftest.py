"""Fixtures of betons and small runs."""

from tests.tiny_runs import digits, finished_run, tiny_run

__all__ = ["digits", "finished_run", "tiny_run"]
