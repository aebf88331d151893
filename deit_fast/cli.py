"""Reads a command line and the YAML files that it names into one frozen RunConfig; writes the `--help` texts.

fastargs holds the options (Section, Param, Checker) and validates them. We pass it every value, and it never reads the command
line, files or the environment itself, because version 1.2.0 would read bool("False") as True and 3.9 as the integer 3,
ignore unknown YAML keys, drop None, accept abbreviated options, let the environment beat the command line, and exit
with status 0 on an error. Precedence: defaults, each `--config-file` in turn (a file after its `base`), command line.
"""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, get_origin, get_type_hints

from fastargs import Config, Param, Section
from fastargs.validation import Checker

from deit_fast.commands import COMMANDS, Call, Command, Group
from deit_fast.config import RunConfig, UserError, at_home, check_ranges, declared, in_words
from deit_fast.options.files import read_file
from deit_fast.options.values import BOOLEANS, COMMAND_LINE, HINTS, Given, typed
from deit_fast.options.words import accepted, nearest, shown, wanted
from deit_fast.shipped import shipped

_SECTIONS: dict[str, Any] = {n: hint for n, hint in get_type_hints(RunConfig).items() if dataclasses.is_dataclass(hint)}
_COMMON = {  # options of every command that are not part of a section: placeholder and meaning
    "config-file": (
        "FILE.yaml",
        "options from a file, `section: {option: value}`; may be repeated: a later file wins over an earlier one and "
        "the command line over both; `base: OTHER.yaml` in a file names one, or a list of them, that it extends; "
        "a name that is no file here may be that of a recipe which comes with the package, such as "
        "deit_configs/deit_small.yaml; `~` in any path is the home",
    ),
    "out": ("FILE.json", "write the result there as JSON"),
    "help": ("", "print the options that most people need, and stop; --help=all: every option"),
}


def parse(command: str, argv: Sequence[str]) -> RunConfig:
    """The configuration of `deit-fast COMMAND *argv`. Raises UserError for the first error in it."""
    return read_call([command, *argv]).config


def read_call(words: Sequence[str]) -> Call:
    """What the words after `deit-fast` ask for: a command, its options, and the configuration that these make.

    Raises UserError for an unknown command or option, an option that the command does not take, a value of a wrong type or
    outside its range, and a file that cannot be read.
    """
    name, *argv = words
    entry = _entry(name)
    on_line, files, out = _split(entry, argv)
    given: dict[str, Given] = {}
    for file in files:
        given |= read_file(shipped(at_home(file)), HINTS, COMMAND_LINE)
    given |= on_line
    name, command = _chosen(name, entry, given)
    for key in on_line:
        if not command.has(key) and key != entry.positional:
            raise UserError(f"{COMMAND_LINE}: {key} is not an option of {name}, but of {_takers(key)}")
    config = _configuration(given, out)
    check_ranges(config, command.has)
    return Call(command, list(words), given, config)


def _chosen(name: str, entry: Command | Group, given: Mapping[str, Given]) -> tuple[str, Command]:
    """The command that runs, and its words: of a group, the kind that the options choose."""
    if isinstance(entry, Command):
        return name, entry
    key = entry.positional
    kind = typed(key, given[key]) if key in given else _default_kind(entry)
    return f"{name} {kind}", entry.kinds[kind]


def _default_kind(group: Group) -> str:
    section, name = group.positional.split(".")
    kind: str = getattr(getattr(RunConfig(), section), name)
    return kind


def _takers(key: str) -> str:
    """The commands that take an option, in words."""
    names: list[str] = []
    for name, entry in COMMANDS.items():
        if entry.has(key):
            names.append(name)
        elif isinstance(entry, Group):
            names += [f"{name} {kind}" for kind, command in entry.kinds.items() if command.has(key)]
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _configuration(given: Mapping[str, Given], out: str) -> RunConfig:
    """The options as they were given and all others at their defaults. Raises UserError for the first of a wrong type."""
    registry = _registry()
    registry.collect(given)
    for error in registry.validate("errordict").values():
        # fastargs raises an empty ValidationError while it handles what the checker raised: that is the context
        assert isinstance(error.__context__, UserError), error.__context__
        raise UserError(str(error.__context__))
    sections = {
        section: cls(**{field.name: registry[f"{section}.{field.name}"] for field in dataclasses.fields(cls)})
        for section, cls in _SECTIONS.items()
    }
    return RunConfig(**sections, out=out)


def overview() -> str:
    """The text of `deit-fast --help`."""
    lines = ["usage: deit-fast COMMAND [--section.option=VALUE ...]", "", "commands:"]
    lines += [f"  {name:<8}{entry.summary}" for name, entry in COMMANDS.items()]
    lines += ["", "`deit-fast COMMAND --help` lists a command's options, `deit-fast --version` prints the version."]
    return "\n".join(lines)


def help_text(name: str, argv: Sequence[str] = (), *, everything: bool = False) -> str:
    """The text of `deit-fast COMMAND *argv --help`: each option with its meaning, unit, type, range and default.

    Lines have up to 100 columns. Of argv, which may be wrong, only the choice of a kind counts. everything: list also the
    options that few people need.
    """
    entry = _entry(name)
    if isinstance(entry, Group):
        words = (word.removeprefix(f"--{entry.positional}=") for word in argv)
        kind = next((word for word in words if word in entry.kinds), None)
        if kind is None:
            return _group_help(name, entry)
        name, entry = f"{name} {kind}", entry.kinds[kind]
    placeholders = " ".join(_placeholder(key) for key in (entry.first, entry.positional) if key)
    lines = [*_first_lines(name, entry.summary, placeholders), *_option_lines(entry, everything)]
    if entry.usual and not everything:
        lines += ["", f"`deit-fast {name} --help=all` lists all options."]
    return "\n".join([*lines, *_common_lines()])


def _group_help(name: str, group: Group) -> str:
    placeholder = _placeholder(group.positional)
    lines = [*_first_lines(name, group.summary, f"[{placeholder}]"), "", f"{placeholder}:"]
    for kind, command in group.kinds.items():
        lines += _help_lines(kind, command.summary, indent=12)
    lines += ["", f"Without {placeholder}: {_default_kind(group)}. In a file: {group.positional}."]
    lines += [f"`deit-fast {name} {placeholder} --help` lists the options of a kind."]
    return "\n".join([*lines, *_common_lines()])


def _first_lines(name: str, summary: str, words: str) -> list[str]:
    usage = " ".join(filter(None, ["usage: deit-fast", name, words, "[--config-file FILE.yaml] [--section.option=VALUE ...]"]))
    return [usage, "", f"{summary[0].upper()}{summary[1:]}."]


def _option_lines(taken: Command, everything: bool) -> list[str]:
    """The options of a command, by section."""
    lines: list[str] = []
    registry = _registry()
    for ns, paths in registry.sections_to_entries.items():
        keys = [key for key in map(".".join, paths) if taken.has(key) and (everything or not taken.usual or key in taken.usual)]
        if keys:
            lines += ["", f"{ns[0]}: {registry.sections[ns].desc}"]
        for key in keys:
            param = registry.entries[tuple(key.split("."))]
            lines += _help_lines(f"--{key}", f"{param.desc} [{accepted(key)}; {_default(key)}]")
        for key in (taken.first, taken.positional):
            if key in keys:
                placeholder = _placeholder(key)
                lines += _help_lines(placeholder, f"the same as --{key}={placeholder.replace('...', ',...')}")
        for name, key in taken.short.items():
            if key in keys:
                lines += _help_lines(f"--{name}", f"the same as --{key}")
    return lines


def _common_lines() -> list[str]:
    lines = ["", "every command:"]
    for name, (placeholder, meaning) in _COMMON.items():
        lines += _help_lines(f"--{name} {placeholder}", meaning)
    return lines


def _placeholder(positional: str) -> str:
    """Placeholder for words without dashes: RUN... for report.runs, if there may be several; empty if there are none."""
    name = positional.partition(".")[2].upper()
    return f"{name.removesuffix('S')}..." if positional and get_origin(HINTS[positional]) is tuple else name


def _default(key: str) -> str:
    value = in_words(key, declared()[key].default)
    if isinstance(value, tuple):
        value = tuple(round(item, 4) if isinstance(item, float) else item for item in value)
    text = shown(value) or ("empty" if value == {} else "")
    return f"default: {text}" if text else "no default"


def _help_lines(left: str, right: str, indent: int = 33) -> list[str]:
    return textwrap.wrap(
        right, 100, initial_indent=f"  {left} ".ljust(indent), subsequent_indent=" " * indent, break_on_hyphens=False
    )


def _entry(name: str) -> Command | Group:
    if name not in COMMANDS:
        raise UserError(f"unknown command {shown(name)}: want one of {', '.join(COMMANDS)}; {nearest(name, COMMANDS)}")
    return COMMANDS[name]


class _Typed(Checker):
    """Strict reader of one option: converts a value to the type of its dataclass field, or raises UserError."""

    def __init__(self, key: str) -> None:
        self.key = key

    def check(self, value: Any) -> Any:
        if not isinstance(value, Given):
            return value  # the default, which fastargs passes through here
        return typed(self.key, value)

    def help(self) -> str:
        return wanted(self.key)


def _registry() -> Config:
    """A fastargs Config of its own, never the library's global one, with every option of every section."""
    registry = Config()
    for section, cls in _SECTIONS.items():
        params = {}
        for field in dataclasses.fields(cls):
            default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
            params[field.name] = Param(_Typed(f"{section}.{field.name}"), field.metadata["help"], default)
        Section(section, (cls.__doc__ or "").rstrip("."), config_descriptor=registry).params(**params)
    return registry


def _split(taken: Command | Group, argv: Sequence[str]) -> tuple[dict[str, Given], list[str], str]:
    """Splits a command line into options, configuration files and the value of --out."""
    short = taken.short if isinstance(taken, Command) else {}
    given: dict[str, Given] = {}
    files: list[str] = []
    runs: list[str] = []  # words without dashes
    words = list(reversed(argv))
    while words:
        word = words.pop()
        if not word.startswith("-"):
            runs.append(word)
            continue
        name, equals, value = word.partition("=")
        key = name.lstrip("-")
        if name == f"--{key}":
            key = short.get(key, key)
            name = f"--{key}"
        hint = HINTS.get(key, str if key in ("config-file", "out") else None)
        if hint is None or name != f"--{key}":
            raise UserError(f"{COMMAND_LINE}: unknown option {shown(name)}; {nearest(key, [*HINTS, *_COMMON])}")
        if not equals and hint is bool and (not words or words[-1].lower() not in BOOLEANS):
            value = "true"
        elif not equals:
            if not words or words[-1].startswith("--"):
                raise UserError(f"{COMMAND_LINE}: {key} has no value: want --{key}=VALUE")
            value = words.pop()
        if key == "config-file":
            files.append(value)
        elif key in given:
            raise UserError(f"{COMMAND_LINE}: {key} is given twice: want it once")
        else:
            given[key] = Given(value, COMMAND_LINE)
    given |= _given_by_words(taken, runs, given)
    out = given.pop("out", None)
    if out and not out.value:
        raise UserError(f"{COMMAND_LINE}: out is empty: want a file name")
    return given, files, out.value if out else ""


def _given_by_words(taken: Command | Group, words: list[str], given: Mapping[str, Given]) -> dict[str, Given]:
    """The options that words without dashes set. given: those that were set by their names."""
    found: dict[str, Given] = {}
    if words and isinstance(taken, Command) and taken.first and taken.first not in given:
        found[taken.first] = Given(words[0], COMMAND_LINE)
        words = words[1:]
    if not words:
        return found
    if not taken.positional:
        raise UserError(f"{COMMAND_LINE}: {shown(words[0])} is not an option: want --section.option=VALUE")
    if taken.positional in given:
        raise UserError(f"{COMMAND_LINE}: {taken.positional} is given twice: as an option and as {shown(words[0])}")
    if get_origin(HINTS[taken.positional]) is tuple:
        found[taken.positional] = Given(words, COMMAND_LINE)
    elif len(words) == 1:
        found[taken.positional] = Given(words[0], COMMAND_LINE)
    else:
        raise UserError(f"{COMMAND_LINE}: {shown(words[1])} is one word too many: want one {taken.positional}")
    return found
