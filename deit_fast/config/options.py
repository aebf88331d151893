"""Options, of which the sections of the configuration consist, and the errors about options."""

from __future__ import annotations

import dataclasses
import enum
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Pair = tuple[float, float]
Triple = tuple[float, float, float]


class UserError(ValueError):
    """An error that the user can mend. One line says what, got, wanted, remedy. Commands print it and exit with 2."""


class RankError(UserError):
    """A UserError that only one of several ranks meets; that rank prints it."""


class Decides(enum.Flag):
    """What an option has a say in: a resumed run keeps those of its weights, a prediction holds for those of its time."""

    NOTHING = 0
    WEIGHTS = enum.auto()
    TIME = enum.auto()
    ALL = WEIGHTS | TIME


@dataclass(frozen=True)
class Within:
    """The values that a numeric option may have, in words that end an error ("want ..."), and as a test."""

    words: str
    holds: Callable[[Any], bool]


SHARE = Within("0 to 1", lambda v: 0 <= v <= 1)
FACTOR = Within("above 0, up to 1", lambda v: 0 < v <= 1)
BELOW_1 = Within("0 up to, not including, 1", lambda v: 0 <= v < 1)
ABOVE_0 = Within("above 0", lambda v: v > 0)
AT_LEAST_0 = Within(">= 0", lambda v: v >= 0)
AT_LEAST_1 = Within(">= 1", lambda v: v >= 1)
STRENGTH = Within("0, or >= 0.01", lambda v: v == 0 or v >= 0.01)
SIDE = Within("0 to 4096", lambda v: 0 <= v <= 4096)
SEED = Within("0 to 2**63 - 1", lambda v: 0 <= v < 2**63)
LIMIT = Within("above 0, or -1 for no limit", lambda v: v == -1 or v > 0)


def option(default: Any, meaning: str, *, within: Within | None = None, decides: Decides | None = None) -> Any:
    """A configuration field: its default, its meaning with the unit, its range, and what it decides.

    `--help`, the check of ranges, resuming and the ledger read these. decides: None: what its section says.
    """
    metadata = {"help": meaning, "within": within, "decides": decides}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def path_option(default: Any, meaning: str, *, decides: Decides | None = None) -> Any:
    """A configuration field of one path, or a tuple of them, in which a leading `~` is the home."""
    return field(default=default, metadata={"help": meaning, "within": None, "decides": decides, "is_path": True})


def at_home(path: str) -> str:
    """The path with a leading `~` or `~NAME` replaced by that home folder; a shell does this only in some positions."""
    return os.path.expanduser(path)  # noqa: PTH111  (text that need not be one path: a pattern, or empty)


class Options:
    """Base of every section. Expands a leading `~` in the section's paths."""

    DECIDES = Decides.ALL  # of each option that does not say it itself

    def __post_init__(self) -> None:
        for own in dataclasses.fields(self):  # type: ignore[arg-type]
            if own.metadata.get("is_path"):
                value = getattr(self, own.name)
                expanded = tuple(map(_expanded, value)) if isinstance(value, tuple) else _expanded(value)
                object.__setattr__(self, own.name, expanded)  # the sections are frozen


def _expanded(path: Any) -> Any:
    """The text of a path with `~` expanded; a value that is no path stays as it is, for the check of types."""
    return at_home(os.fspath(path)) if isinstance(path, str | os.PathLike) else path
