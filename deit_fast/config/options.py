"""Takes nothing, gives what sections of the configuration are made of: options, and the errors of those that do not fit."""

from __future__ import annotations

from dataclasses import field
from typing import Any

Pair = tuple[float, float]
Triple = tuple[float, float, float]


class UserError(ValueError):
    """What the user can mend. Its message is one line: what, got, wanted, remedy. Commands print it and exit with 2."""


class RankError(UserError):
    """A UserError that one rank of several meets alone, and that rank itself therefore prints."""


def option(default: Any, meaning: str) -> Any:
    """A configuration field with its default and its meaning (with the unit), which `--help` prints."""
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata={"help": meaning})
    return field(default=default, metadata={"help": meaning})
