"""Reads options from YAML files, each value with the line it stands in."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import yaml

from deit_fast.config import UserError, at_home
from deit_fast.options.strict_yaml import StrictLoader, entries
from deit_fast.options.values import Given
from deit_fast.options.words import nearest, shown
from deit_fast.shipped import shipped


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
        loader = StrictLoader(content)
        root = loader.get_single_node()
        for section, node, line in entries(loader, root, f"{path}:1: want sections of options"):
            origin = f"{path}:{line}"
            if section == "base":
                for base in bases(loader.construct_object(node, deep=True), origin):
                    below |= read_file(shipped(base, path.parent), keys, origin, (*chain, path.resolve()))
                continue
            if section not in sections:
                raise UserError(f"{origin}: unknown section {shown(section)}; {nearest(section, [*sections, 'base'])}")
            problem = f"{origin}: {section}: want options below it, as in `{section}: {{name: value}}`"
            for name, value_node, line in entries(loader, node, problem):
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
        loader = StrictLoader(content)
        return _nested(loader, loader.get_single_node(), path, 1)
    except yaml.YAMLError as error:
        raise UserError(_yaml_problem(path, content, error)) from None
    except RecursionError:
        raise UserError(f"{path}:1: nested too deeply") from None


def _nested(loader: StrictLoader, node: yaml.Node | None, path: Path, line: int) -> Given:
    origin = f"{path}:{line}"
    if isinstance(node, yaml.MappingNode):
        found = entries(loader, node, origin)
        return Given({name: _nested(loader, value, path, own_line) for name, value, own_line in found}, origin)
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
