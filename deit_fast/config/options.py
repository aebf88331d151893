"""Options, of which the sections of the configuration consist, and the errors about options.

Four words say what numbers and names cannot, the same for every option: `off` (it is not used), `auto` (the program chooses),
`unlimited` and `all`. An option declares the word that it accepts. In Python the value is then None for a number or several,
and empty for text, a path or a tuple of texts, so that `if config.model.weights` reads well; the word is accepted too.
"""

from __future__ import annotations

import dataclasses
import enum
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Pair = tuple[float, float]
Triple = tuple[float, float, float]
Word = Literal["", "off", "auto", "unlimited", "all"]


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
BETWEEN = Within("above 0 and below 1", lambda v: 0 < v < 1)
ABOVE_0 = Within("above 0", lambda v: v > 0)
AT_LEAST_0 = Within(">= 0", lambda v: v >= 0)
AT_LEAST_1 = Within(">= 1", lambda v: v >= 1)
ALPHA = Within(">= 0.01", lambda v: v >= 0.01)
SIDE = Within("1 to 4096", lambda v: 1 <= v <= 4096)
SEED = Within("0 to 2**63 - 1", lambda v: 0 <= v < 2**63)


def option(
    default: Any, meaning: str, *, unset: Word = "", within: Within | None = None, decides: Decides | None = None
) -> Any:
    """A configuration field: its default, its meaning with the unit, its range, and what it decides.

    unset: the word that leaves it unset; its value is then None, or empty for texts. decides: None: what its section says.
    `--help`, the check of ranges, resuming and the ledger read these.
    """
    python = "" if isinstance(default, str) else () if default == () else None
    metadata = {"help": meaning, "within": within, "decides": decides, "word": unset, "unset": python}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def path_option(default: Any, meaning: str, *, unset: Word = "", decides: Decides | None = None) -> Any:
    """A configuration field of one path, or a tuple of them, in which a leading `~` is the home; unset, decides: as above."""
    own = option(default, meaning, unset=unset, decides=decides)
    return field(default=default, metadata={**own.metadata, "is_path": True})


def at_home(path: str) -> str:
    """The path with a leading `~` or `~NAME` replaced by that home folder; a shell does this only in some positions."""
    return os.path.expanduser(path)  # noqa: PTH111  (text that need not be one path: a pattern, or empty)


class Options:
    """Base of every section. Replaces an option's word by the value that it stands for, and expands `~` in paths."""

    DECIDES = Decides.ALL  # of each option that does not say it itself

    def __post_init__(self) -> None:
        for own in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, own.name)
            if own.metadata.get("word"):
                value = _without_word(value, own.metadata["word"], own.metadata["unset"])
            if own.metadata.get("is_path"):
                value = tuple(map(path_text, value)) if isinstance(value, tuple) else path_text(value)
            object.__setattr__(self, own.name, value)  # the sections are frozen


def _without_word(value: Any, word: str, unset: Any) -> Any:
    """The value that the word stands for, alone or, where it is None, as one of several numbers too."""
    if isinstance(value, tuple) and unset is None:
        return tuple(None if isinstance(item, str) and item == word else item for item in value)
    return unset if isinstance(value, str) and value == word else value


def path_text(path: Any) -> Any:
    """The text of a path with `~` expanded; a value that is no path stays as it is, for the check of types."""
    return at_home(os.fspath(path)) if isinstance(path, str | os.PathLike) else path
