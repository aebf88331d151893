"""Help of each command: the options it lists, their types, ranges and defaults, and the kinds of bench."""

from __future__ import annotations

import dataclasses
import re
from typing import Any, get_type_hints

import pytest

from deit_fast.cli import help_text, overview
from deit_fast.commands import COMMANDS
from deit_fast.config import RunConfig
from tests.commands.every import every_command

SECTIONS: dict[str, Any] = {n: kind for n, kind in get_type_hints(RunConfig).items() if dataclasses.is_dataclass(kind)}
COMMANDS_AND_KINDS = every_command()


@pytest.mark.parametrize("command", COMMANDS_AND_KINDS)
def test_help_lists_each_option_that_the_command_takes(command: str) -> None:
    name, *kind = command.split()
    text = help_text(name, kind, everything=True)
    assert text.startswith(f"usage: deit-fast {command} ")
    assert max(map(len, text.splitlines())) <= 100
    flat = " ".join(text.split())
    for section, section_type in SECTIONS.items():
        for field in dataclasses.fields(section_type):
            key = f"{section}.{field.name}"
            meaning = " ".join(field.metadata["help"].split())
            assert (f" --{key} {meaning} [" in flat) is COMMANDS_AND_KINDS[command].has(key), key
    for common in ("--config-file FILE.yaml", "--out FILE.json", "--help"):
        assert common in text


@pytest.mark.parametrize("command", COMMANDS_AND_KINDS)
def test_help_lists_what_most_people_need_and_says_how_to_see_the_rest(command: str) -> None:
    name, *kind = command.split()
    usual, text = COMMANDS_AND_KINDS[command].usual, help_text(name, kind)
    listed = set(re.findall(r"^  --(\w+\.\w+) ", text, re.MULTILINE))
    if usual:
        assert listed == set(usual)
        assert f"`deit-fast {command} --help=all`" in text
    else:
        assert text == help_text(name, kind, everything=True)
    assert len(listed) <= 17


def test_help_of_bench_lists_its_kinds() -> None:
    text = help_text("bench")
    assert text == help_text("bench", ["--bench.kind=evil"], everything=True)
    kinds = [command.split()[1] for command in COMMANDS_AND_KINDS if command.startswith("bench ")]
    assert re.findall(r"^  (\w+)  +\w", text, re.MULTILINE) == kinds
    assert "`deit-fast bench KIND --help`" in text
    assert "--bench." not in text
    for words in (["loader"], ["--bench.kind=loader"], ["--no.such=1", "--bench.kind", "loader"]):
        assert help_text("bench", words).startswith("usage: deit-fast bench loader ")


def test_help_gives_types_choices_ranges_and_defaults() -> None:
    flat = " ".join(help_text("train", everything=True).split())
    assert "views in a training batch of one rank [integer >= 1; default: 128]" in flat
    assert "[one of auto, off, bf16, fp16; default: auto]" in flat
    assert "[2 numbers with commas between, 0 < low <= high; default: 0.75,1.3333]" in flat
    assert "[true or false; default: true]" in flat
    assert "betons or pattern of the validation set [text; no default]" in flat
    assert "report RUN..." in help_text("report")
    assert all(f"\n  {name} " in overview() for name in COMMANDS)
