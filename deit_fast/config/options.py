"""Options, of which the sections of the configuration consist, and the errors about options."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import field
from typing import Any

Pair = tuple[float, float]
Triple = tuple[float, float, float]


class UserError(ValueError):
    """An error that the user can mend. One line says what, got, wanted, remedy. Commands print it and exit with 2."""


class RankError(UserError):
    """A UserError that only one of several ranks meets; that rank prints it."""


def option(default: Any, meaning: str) -> Any:
    """A configuration field with its default and its meaning (with the unit), which `--help` prints."""
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata={"help": meaning})
    return field(default=default, metadata={"help": meaning})


def path_option(default: Any, meaning: str) -> Any:
    """A configuration field of one path or a tuple of paths; a leading `~` means the home folder."""
    return field(default=default, metadata={"help": meaning, "is_path": True})


def at_home(path: str) -> str:
    """The path with a leading `~` or `~NAME` replaced by that home folder; a shell does this only in some positions."""
    return os.path.expanduser(path)  # noqa: PTH111  (text that need not be one path: a pattern, or empty)


class Options:
    """Base of every section. Expands a leading `~` in the section's paths."""

    def __post_init__(self) -> None:
        for own in dataclasses.fields(self):  # type: ignore[arg-type]
            if own.metadata.get("is_path"):
                value = getattr(self, own.name)
                expanded = tuple(map(_expanded, value)) if isinstance(value, tuple) else _expanded(value)
                object.__setattr__(self, own.name, expanded)  # the sections are frozen


def _expanded(path: Any) -> Any:
    """The text of a path with `~` expanded; a value that is no path stays as it is, for the check of types."""
    return at_home(os.fspath(path)) if isinstance(path, str | os.PathLike) else path
