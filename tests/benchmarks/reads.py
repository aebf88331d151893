"""Notes which options of a configuration are read, to hold them against those that a kind of bench takes."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, get_type_hints

import pytest

from deit_fast.commands import Command
from deit_fast.config import RunConfig, checks
from deit_fast.config.options import Options

_SECTIONS = [name for name, kind in get_type_hints(RunConfig).items() if dataclasses.is_dataclass(kind)]
# records of a configuration, and checks that options do not contradict each other, read more than is used
_READ_ALL = (dataclasses.__file__, checks.__file__)
# chooses the kind; is checked where the evaluation of a run is made, which bench has no use for
_OF_NO_KIND = ("bench.kind", "eval.heads")


@dataclasses.dataclass
class _Watched:
    """A section whose reads are noted. options: those of its fields that it has from the configuration."""

    section: Any
    options: dict[str, str]


@contextlib.contextmanager
def options_read(config: RunConfig) -> Iterator[set[str]]:
    """The options, as "section.name", that are read inside the block of a configuration, or of changed copies of it."""
    read: set[str] = set()
    watched: dict[int, _Watched] = {}
    for name in _SECTIONS:
        section = getattr(config, name)
        watched[id(section)] = _Watched(section, {own.name: f"{name}.{own.name}" for own in dataclasses.fields(section)})

    def get(section: Any, name: str) -> Any:
        key = watched[id(section)].options.get(name) if id(section) in watched else None
        if key is not None and key not in read and not _is_below(_READ_ALL, sys._getframe(1)):
            read.add(key)
        return object.__getattribute__(section, name)

    def replace(section: Any, /, **changes: Any) -> Any:
        copy = original(section, **changes)
        if id(section) in watched:
            options = watched[id(section)].options
            watched[id(copy)] = _Watched(copy, {name: key for name, key in options.items() if name not in changes})
        return copy

    original = dataclasses.replace
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Options, "__getattribute__", get, raising=False)
        patch.setattr(dataclasses, "replace", replace)
        yield read


def _is_below(files: tuple[str, ...], frame: FrameType | None) -> bool:
    """Whether a frame or one of its callers is of one of the files."""
    while frame is not None:
        if frame.f_code.co_filename in files:
            return True
        frame = frame.f_back
    return False


def not_taken(read: set[str], kind: Command) -> list[str]:
    """The options that were read, and that the kind does not take."""
    return [key for key in sorted(read) if not kind.has(key) and key not in _OF_NO_KIND]
