"""Reads option values from YAML files and the command line, each as the type of its option.

YAML is read strictly: a repeated key is an error, numbers are decimal (YAML 1.1 would read 010 as 8, 1_0 as 10 and 1:30 as 90),
and 1e-3 is a number, while PyYAML would read it as text.
"""

from __future__ import annotations

import contextlib
import difflib
import math
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml

from deit_fast.config import STAGE_LENGTHS, STAGE_OPTIONS, UserError, at_home, declared, set_kind

COMMAND_LINE = "command line"
BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
HINTS: dict[str, Any] = {key: one.hint for key, one in declared().items()}  # the type of each option `section.name`
_INTEGER = re.compile(r"[-+]?[0-9]+")
_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?")


@dataclass(frozen=True)
class Given:
    """An unconverted value and its origin: COMMAND_LINE or FILE:LINE."""

    value: Any
    origin: str


def read_file(path: Path, keys: Collection[str], asked_by: str, chain: tuple[Path, ...] = ()) -> dict[str, Given]:
    """The options of a YAML file on top of those of its `base` files, by "section.name".

    keys: all known options. asked_by: origin of the file's name, for errors. chain: the resolved paths of the files that
    extend this one. Raises UserError for a file that cannot be read or is not YAML, an unknown key, or a `base` that leads
    back to its own file.
    """
    if path.resolve() in chain:
        raise UserError(f"{asked_by}: base {path} leads back to itself: want a base that does not extend this file")
    content = _content(path, asked_by)
    sections = {key.partition(".")[0]: None for key in keys}
    below: dict[str, Given] = {}
    own: dict[str, Given] = {}
    try:
        loader = _Loader(content)
        root = loader.get_single_node()
        for section, node, line in _entries(loader, root, f"{path}:1: want sections of options"):
            origin = f"{path}:{line}"
            if section == "base":
                for base in bases(loader.construct_object(node, deep=True), origin):
                    below |= read_file(path.parent / base, keys, origin, (*chain, path.resolve()))
                continue
            if section not in sections:
                raise UserError(f"{origin}: unknown section {shown(section)}; {nearest(section, [*sections, 'base'])}")
            problem = f"{origin}: {section}: want options below it, as in `{section}: {{name: value}}`"
            for name, value_node, line in _entries(loader, node, problem):
                key, origin = f"{section}.{name}", f"{path}:{line}"
                if key not in keys:
                    raise UserError(f"{origin}: unknown option {shown(key)}; {nearest(key, keys)}")
                own[key] = Given(loader.construct_object(value_node, deep=True), origin)
    except yaml.YAMLError as error:
        raise UserError(_yaml_problem(path, content, error)) from None
    except RecursionError:
        raise UserError(f"{path}:1: nested too deeply: want sections of options") from None
    return below | own


def read_nested(path: Path, asked_by: str) -> Given:
    """Reads a YAML file that is not a configuration: each value becomes a Given with its own line.

    Mappings are dictionaries of Given, lists are lists of Given; `plain` gives the values alone. Raises UserError for a file
    that cannot be read or is not YAML.
    """
    content = _content(path, asked_by)
    try:
        loader = _Loader(content)
        return _nested(loader, loader.get_single_node(), path, 1)
    except yaml.YAMLError as error:
        raise UserError(_yaml_problem(path, content, error)) from None
    except RecursionError:
        raise UserError(f"{path}:1: nested too deeply") from None


def _nested(loader: _Loader, node: yaml.Node | None, path: Path, line: int) -> Given:
    origin = f"{path}:{line}"
    if isinstance(node, yaml.MappingNode):
        entries = _entries(loader, node, origin)
        return Given({name: _nested(loader, value, path, own_line) for name, value, own_line in entries}, origin)
    if isinstance(node, yaml.SequenceNode):
        return Given([_nested(loader, item, path, item.start_mark.line + 1) for item in node.value], origin)
    return Given(None if node is None else loader.construct_object(node, deep=True), origin)


def plain(given: Given) -> Given:
    """The same value, with everything nested in it as plain values, for options."""
    return Given(_plain(given.value), given.origin)


def _plain(value: Any) -> Any:
    if isinstance(value, Given):
        return _plain(value.value)
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _content(path: Path, asked_by: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{asked_by}: cannot read {path}: {error.strerror}") from None


class _Loader(yaml.SafeLoader):
    """yaml.SafeLoader that refuses repeated keys and reads only plain decimal numbers as numbers."""

    def __init__(self, stream: bytes | str) -> None:
        super().__init__(stream)
        self.flat: set[yaml.Node] = set()

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Every mapping passes here before it is built, again for each alias; then merged keys rightly stand twice."""
        if node in self.flat:
            return
        self.flat.add(node)
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{shown(key_node.value)} stands twice: want it once", key_node.start_mark
                )
            seen.add(key_node.value if isinstance(key_node, yaml.ScalarNode) else key_node)
        super().flatten_mapping(node)

    def construct_decimal(self, node: yaml.ScalarNode) -> int | float | str:
        """A decimal number, or the text where it is none."""
        text = self.construct_scalar(node)
        if _INTEGER.fullmatch(text) and len(text) < 1000:  # Python refuses to convert more than 4300 digits
            return int(text)
        return float(text) if _NUMBER.fullmatch(text) else text


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"(?:{_NUMBER.pattern})$"), list("-+.0123456789"))
for _kind in ("int", "float", "timestamp"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _Loader.construct_decimal)


def _entries(loader: _Loader, node: yaml.Node | None, problem: str) -> Iterator[tuple[str, yaml.Node, int]]:
    """Key, value and line of each entry of a mapping; nothing for an empty one; raises UserError(problem) otherwise."""
    if node is None or node.tag == "tag:yaml.org,2002:null":
        return
    if not isinstance(node, yaml.MappingNode):
        raise UserError(problem)
    loader.flatten_mapping(node)
    for key, value in node.value:
        yield str(loader.construct_scalar(key)), value, key.start_mark.line + 1


def bases(value: Any, origin: str) -> list[str]:
    """The files in a YAML file's `base`. Raises UserError if it is neither a name nor a list of names."""
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) and name for name in names):
        raise UserError(f"{origin}: base={shown(value)}: want a file name or a list of them")
    return [at_home(name) for name in names]


def _yaml_problem(path: Path, content: bytes, error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark:
        return f"{path}:{error.problem_mark.line + 1}: {error.problem}"
    if isinstance(error, yaml.reader.ReaderError):
        # the position counts characters where the file could be decoded, bytes where it could not
        text = content.decode("utf-8" if error.encoding == "unicode" else "latin-1", errors="replace")
        line = text[: error.position].count("\n") + 1
        return f"{path}:{line}: {error.reason}: want UTF-8 text without control characters"
    return f"{path}: {' '.join(str(error).split())}"


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
            value = yaml.load(value, Loader=_Loader)
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
        value = int(value) if isinstance(value, str) and _INTEGER.fullmatch(value) else value
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    elif kind is float:
        value = float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value
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
    mapping = {key: yaml.load(value, Loader=_Loader) for key, equals, value in pairs if equals}
    if len(mapping) < len(pairs):
        raise ValueError
    return _keywords(mapping)


def _keywords(mapping: Any) -> dict[str, Any]:
    if not isinstance(mapping, dict) or not all(isinstance(key, str) and key.isidentifier() for key in mapping):
        raise ValueError
    return mapping


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
