"""Fixtures of betons."""

from tests.tiny_runs import digits

__all__ = ["digits"]
