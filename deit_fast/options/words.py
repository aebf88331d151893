"""Describes options in errors and in `--help`: their kinds of values, a value, and the name that was likely meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin

from deit_fast.config import declared


def wanted(key: str) -> str:
    """Describes in words the values of the option `section.name`."""
    one = declared()[key]
    return _kind_in_words(one.kind) + (f", or {one.word}" if one.word else "")


def accepted(key: str) -> str:
    """Describes the values of the option `section.name` together with their range, e.g. `integer >= 1, or auto`."""
    one = declared()[key]
    kind = re.sub("^an? ", "", _kind_in_words(one.kind))
    if one.within is not None:
        kind += f"{', ' if get_origin(one.kind) is tuple else ' '}{one.within.words}"
    return kind + (f", or {one.word}" if one.word else "")


def _kind_in_words(kind: Any) -> str:
    names = {bool: "true or false", int: "an integer", float: "a number", str: "text", dict: "key=value,key=value"}
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) is tuple:
        kinds = get_args(kind)
        if get_origin(kinds[0]) is dict:
            return "a YAML list of mappings from options to values"
        if kinds[1] is ...:
            return f"{'texts' if kinds[0] is str else 'integers'} with commas between"
        return f"{len(kinds)} numbers with commas between"
    return names[get_origin(kind) or kind]


def nearest(name: str, names: Iterable[str]) -> str:
    """`nearest: X`, where X is the one of `names` most likely meant by `name`, e.g. `optim.lr` for `train.lr`."""
    names = list(names)
    own = name.rpartition(".")[2]
    likely = [one for one in names if (name and one.startswith(name)) or one.rpartition(".")[2] == own]
    return f"nearest: {difflib.get_close_matches(name, likely or names, 1, cutoff=0)[0]}"


def shown(value: Any) -> str:
    """Formats a value for an error or `--help`: in the notation of YAML or the command line, on one line of bounded length."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    text = "" if value == {} else "null" if value is None else str(value)
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 100 else f"{text[:97]}..."
