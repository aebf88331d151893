"""Converts values from YAML or the command line to the types of their options."""

from __future__ import annotations

import contextlib
import math
import re
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

import yaml

from deit_fast.config import STAGE_LENGTHS, STAGE_OPTIONS, UserError, declared, set_kind
from deit_fast.options.strict_yaml import INTEGER, NUMBER, StrictLoader
from deit_fast.options.words import nearest, shown, wanted

COMMAND_LINE = "command line"
BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
HINTS: dict[str, Any] = {key: one.hint for key, one in declared().items()}  # the type of each option `section.name`


@dataclass(frozen=True)
class Given:
    """An unconverted value and its origin: COMMAND_LINE or FILE:LINE."""

    value: Any
    origin: str


def typed(key: str, given: Given) -> Any:
    """Converts the value of option `section.name` to the type of its field. Raises UserError if that is impossible."""
    one = declared()[key]
    if key == "schedule.stages" and not _is_word(one.word, given):
        return _stages(key, given)
    try:
        return one.unset if _is_word(one.word, given) and one.unset is not None else convert(one.hint, given, one.word)
    except (ValueError, OverflowError, yaml.YAMLError):
        want, remedy = wanted(key), ""
        if one.kind is str and given.value != "":  # only unquoted YAML is anything but text
            want = want.replace("text", "text in quotes", 1)
        if get_origin(one.kind) is Literal:
            names = get_args(one.kind)
            meant = "off" if given.value == "none" and "off" in names else str(given.value)  # its name in earlier versions
            remedy = f"; {nearest(meant, names)}"
        raise UserError(f"{given.origin}: {key}={shown(given.value)}: want {want}{remedy}") from None


def _stages(key: str, given: Given) -> tuple[dict[str, Any], ...]:
    """A list of mappings of options to values, or its text on the command line, with each value as the type of its option."""
    value = given.value
    if given.origin == COMMAND_LINE:
        with contextlib.suppress(yaml.YAMLError):
            value = yaml.load(value, Loader=StrictLoader)
    if not isinstance(value, list) or not value or not all(isinstance(stage, dict) for stage in value):
        raise UserError(f"{given.origin}: {key}={shown(given.value)}: want {wanted(key)}")
    stages = []
    for number, stage in enumerate(value, start=1):
        where = f"{given.origin}: {key}: stage {number}"
        for name in stage:
            if name not in (*STAGE_LENGTHS, *STAGE_OPTIONS):
                raise UserError(
                    f"{where}: {shown(name)} cannot stand there; {nearest(str(name), (*STAGE_LENGTHS, *STAGE_OPTIONS))}"
                )
        stages.append({name: _in_stage(name, Given(item, where)) for name, item in stage.items()})
    return tuple(stages)


def _in_stage(name: str, given: Given) -> Any:
    if name not in STAGE_LENGTHS:
        return typed(name, given)
    try:
        return convert(float, given)
    except (ValueError, OverflowError):
        raise UserError(f"{given.origin}: {name}={shown(given.value)}: want a number above 0") from None


def _is_word(word: str, given: Given) -> bool:
    """Whether a value is an option's word, or null in YAML; YAML 1.1 reads a bare `off` as False."""
    if given.origin == COMMAND_LINE:
        return bool(word) and given.value == word
    return bool(word) and (given.value is None or given.value == word or (word == "off" and given.value is False))


def convert(hint: Any, given: Given, word: str = "") -> Any:
    """Converts a value to the type `hint` of a configuration field, and the word to None where the type has it.

    word: of the option, or empty. With a word there is no other way to say that it is unset: empty text is refused.
    Raises ValueError, OverflowError or yaml.YAMLError if that is impossible.
    """
    value, is_words = given.value, given.origin == COMMAND_LINE
    kind = set_kind(hint)
    if kind is not hint and _is_word(word, given):
        return None
    if get_origin(kind) is Literal:
        value = "off" if value is False and "off" in get_args(kind) else value
        if value in get_args(kind):
            return value
    elif get_origin(kind) is tuple:
        return _items(get_args(kind), given, word)
    elif get_origin(kind) is dict:
        return _mapping(value) if is_words else _keywords(value)
    elif kind is bool:
        value = BOOLEANS.get(value.lower()) if is_words else value
        if isinstance(value, bool):
            return value
    elif kind is int:
        value = int(value) if isinstance(value, str) and INTEGER.fullmatch(value) else value
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif kind is float:
        value = float(value) if isinstance(value, str) and NUMBER.fullmatch(value) else value
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(float(value)):
            return float(value)
    elif isinstance(value, kind) and (value or not word):
        return value
    raise ValueError


def _items(kinds: tuple[Any, ...], given: Given, word: str) -> tuple[Any, ...]:
    """`1,2` on the command line, or a list, as a tuple of `kinds`; (str, ...): any number, none empty."""
    items = given.value
    if isinstance(items, str) and given.origin == COMMAND_LINE:
        items = items.split(",") if items else []
    elif _is_word(word, given):
        items = [word]
    if not isinstance(items, list) or "" in items or (word and not items):
        raise ValueError
    wanted_kinds = kinds[:1] * len(items) if kinds[1] is ... else kinds
    return tuple(convert(kind, Given(item, given.origin), word) for kind, item in zip(wanted_kinds, items, strict=True))


def _mapping(words: str) -> dict[str, Any]:
    """`patch_size=4,depth=6` as a mapping, each value read as YAML; a comma divides where `name=` follows it."""
    pairs = [pair.partition("=") for pair in re.split(r",(?=[A-Za-z_]\w*=)", words)] if words else []
    mapping = {key: yaml.load(value, Loader=StrictLoader) for key, equals, value in pairs if equals}
    if len(mapping) < len(pairs):
        raise ValueError
    return _keywords(mapping)


def _keywords(mapping: Any) -> dict[str, Any]:
    if not isinstance(mapping, dict) or not all(isinstance(key, str) and key.isidentifier() for key in mapping):
        raise ValueError
    return mapping
