"""Commands and kinds of bench declare options that are there, and each declares all that is read when it runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import get_type_hints

import pytest

import deit_fast.commands
from deit_fast.commands import COMMANDS, Group
from deit_fast.config import RunConfig
from tests.commands.every import every_command

SECTIONS = {name: kind for name, kind in get_type_hints(RunConfig).items() if dataclasses.is_dataclass(kind)}
OPTIONS = [f"{section}.{own.name}" for section, kind in SECTIONS.items() for own in dataclasses.fields(kind)]
COMMANDS_AND_KINDS = every_command()
FOLDER = Path(deit_fast.commands.__file__).parent


@pytest.mark.parametrize("name", COMMANDS_AND_KINDS)
def test_what_is_declared_is_there(name: str) -> None:
    command = COMMANDS_AND_KINDS[name]
    assert set(command.takes) <= {*SECTIONS, *OPTIONS}
    assert len(set(command.takes)) == len(command.takes)
    assert not [key for key in command.takes if "." in key and key.partition(".")[0] in command.takes]  # said twice
    others = [*command.usual, *command.short.values(), *filter(None, [command.first, command.positional])]
    assert [key for key in others if key not in OPTIONS or not command.has(key)] == []
    assert len(set(command.usual)) == len(command.usual)


@pytest.mark.parametrize("name", [name for name, entry in COMMANDS.items() if isinstance(entry, Group)])
def test_kinds_leave_words_to_the_choice_among_them(name: str) -> None:
    group = COMMANDS[name]
    assert isinstance(group, Group)
    assert group.positional in OPTIONS
    assert [kind for kind, command in group.kinds.items() if command.first or command.positional or command.short] == []


def test_each_option_has_a_command_that_takes_it() -> None:
    assert [
        key for key in OPTIONS if not any(entry.has(key) for entry in (*COMMANDS.values(), *COMMANDS_AND_KINDS.values()))
    ] == []


def test_each_file_is_a_command_or_kind() -> None:
    """A file that no list names would be a command that nobody can call."""
    shared = {"__init__", "command", "training"}
    assert {path.stem for path in FOLDER.iterdir() if path.stem not in {*shared, "__pycache__"}} == set(COMMANDS)
    bench = COMMANDS["bench"]
    assert isinstance(bench, Group)
    assert {path.stem for path in (FOLDER / "bench").glob("*.py")} - shared == set(bench.kinds)
