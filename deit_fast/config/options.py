"""What sections of the configuration are made of: options, and the errors of those that do not fit."""

from __future__ import annotations

import dataclasses
import os
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


def path_option(default: Any, meaning: str) -> Any:
    """A configuration field of one path, or a tuple of them, in which a leading `~` is the home."""
    return field(default=default, metadata={"help": meaning, "is_path": True})


def at_home(path: str) -> str:
    """The path with a leading `~` or `~NAME` as the home of the user, which a shell puts there in some places alone."""
    return os.path.expanduser(path)  # noqa: PTH111  (text that need not be one path: a pattern, or empty)


class Options:
    """What every section is: its paths begin at the home where they were given with `~`."""

    def __post_init__(self) -> None:
        for own in dataclasses.fields(self):  # type: ignore[arg-type]
            if own.metadata.get("is_path"):
                value = getattr(self, own.name)
                expanded = tuple(map(_expanded, value)) if isinstance(value, tuple) else _expanded(value)
                object.__setattr__(self, own.name, expanded)  # the sections are frozen


def _expanded(path: Any) -> Any:
    """The text of a path, its home found; what is none stays, for the check of types."""
    return at_home(os.fspath(path)) if isinstance(path, str | os.PathLike) else path
