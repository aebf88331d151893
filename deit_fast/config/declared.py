"""All options in one table, what their fields declare about them, and values that earlier versions recorded."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from deit_fast.config.options import Within
from deit_fast.config.run import RunConfig


@dataclass(frozen=True)
class Declared:
    """An option. hint: type of its value; word: what leaves it unset, empty if nothing does; unset: its value in Python."""

    hint: Any
    default: Any
    meaning: str
    within: Within | None
    word: str
    unset: Any

    @property
    def kind(self) -> Any:
        """The type of its value when it is set."""
        return set_kind(self.hint)


def set_kind(hint: Any) -> Any:
    """A type without None."""
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    return kinds[0] if type(None) in get_args(hint) and len(kinds) == 1 else hint


@functools.cache
def declared() -> dict[str, Declared]:
    """Every option by `section.name`."""
    return {
        f"{section}.{own.name}": Declared(
            hint=get_type_hints(kind)[own.name],
            default=own.default if own.default_factory is dataclasses.MISSING else own.default_factory(),
            meaning=own.metadata["help"],
            within=own.metadata["within"],
            word=own.metadata["word"],
            unset=own.metadata["unset"],
        )
        for section, kind in get_type_hints(RunConfig).items()
        if dataclasses.is_dataclass(kind)
        for own in dataclasses.fields(kind)
    }


def in_words(path: str, value: Any) -> Any:
    """A value of the option `section.name` as the command line and YAML have it: the word for the value that it stands for."""
    one = declared().get(path)
    if one is None or not one.word:
        return value
    if isinstance(value, tuple) and one.unset is None:
        return tuple(one.word if item is None else item for item in value)
    return one.word if value == one.unset else value


def as_now(recorded: Any) -> Any:
    """A recorded configuration, by section and name, with the values that older versions had in place of a word.

    They wrote 0 or -1 where a number was off, automatic or unlimited, which its range excludes now, and `none` for `off`. What
    is no configuration stays as it is.
    """
    if not isinstance(recorded, Mapping):
        return recorded
    return {
        section: {name: value_now(f"{section}.{name}", value) for name, value in values.items()}
        if isinstance(values, Mapping)
        else values
        for section, values in recorded.items()
    }


def value_now(path: str, value: Any) -> Any:
    """A recorded value of the option `section.name` as this version has it; that of an unknown option stays as it is."""
    one = declared().get(path)
    if one is None:
        return value
    if get_origin(one.hint) is Literal and value == "none" and "off" in get_args(one.hint):
        return "off"
    numbers = value if isinstance(value, list | tuple) and value else (value,)
    are_numbers = all(isinstance(number, int | float) and not isinstance(number, bool) for number in numbers)
    if one.kind is not one.hint and one.within is not None and are_numbers and not one.within.holds(value):
        return None
    return value
