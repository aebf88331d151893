"""What a command declares about itself, and what a command line asks of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from deit_fast.config import RunConfig
from deit_fast.options.values import Given


@dataclass(frozen=True)
class Call:
    """What a command line asks for. words: all after `deit-fast`; given: options by "section.name", as they were written."""

    command: Command
    words: list[str]
    given: dict[str, Given]
    config: RunConfig


@dataclass(frozen=True)
class Command:
    """What a command does, its options beside --config-file and --out, and the function that does it.

    takes: sections ("data") and single options ("train.device"). run: gives what --out writes; it imports what it needs when
    it is called, so that `--help` does not wait for torch. usual: options that most people need, which `--help` lists; empty:
    all. positional: the option that is set by words without dashes, if any. first: another one, which the first of these words
    sets. short: options by a shorter name. prints_result: whether what it prints is its result, and not only a report about
    files that it wrote.
    """

    summary: str
    takes: tuple[str, ...]
    run: Callable[[Call], dict[str, Any]]
    usual: tuple[str, ...] = ()
    positional: str = ""
    first: str = ""
    short: dict[str, str] = field(default_factory=dict)
    prints_result: bool = True

    def has(self, key: str) -> bool:
        """Whether the command takes the option `section.name`."""
        return key in self.takes or key.partition(".")[0] in self.takes


@dataclass(frozen=True)
class Group:
    """A command of several kinds, each a Command with options of its own, without positional and short ones.

    positional: the option that chooses the kind; its default is the kind without a word.
    """

    summary: str
    positional: str
    kinds: dict[str, Command]

    def has(self, key: str) -> bool:
        """Whether all kinds take the option `section.name`."""
        return key == self.positional or all(kind.has(key) for kind in self.kinds.values())


def of(section: str, *names: str) -> tuple[str, ...]:
    """Single options of a section, as `takes` and `usual` name them."""
    return tuple(f"{section}.{name}" for name in names)
