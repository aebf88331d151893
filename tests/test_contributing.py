"""CONTRIBUTING.md names files and names in them that are there."""

from __future__ import annotations

import re
from pathlib import Path

PROJECT = Path(__file__).parents[1]
STEPS = re.findall(r"^\d\. ((?:.|\n   )+)", (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
NAMES = r"_?[A-Z_]{4,}|[A-Z]\w+\.\w+|SourceKind|_\w+|create_optimizer|apply|test_\w+"


def test_files_are_there_and_have_what_is_named() -> None:
    """In a step, what is quoted after a file's name and is a constant, a class or a function stands in that file."""
    checked = 0
    for step in STEPS:
        file = PROJECT
        for quoted in re.findall(r"`([^`]+)`", step.replace("\n   ", " ")):
            if "NAME" in quoted or " " in quoted:
                continue
            if re.fullmatch(r"(deit_fast|tests)/.*\.py", quoted):
                file = PROJECT / quoted
                assert file.is_file(), quoted
            elif file.is_file() and re.fullmatch(NAMES, quoted):
                for name in quoted.split("."):
                    assert re.search(rf"\b{name}\b", file.read_text(encoding="utf-8")), f"{name} in {file}"
            else:
                continue
            checked += 1
    assert checked > 25


def test_commands_are_there() -> None:
    targets = set(re.findall(r"^(\w+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"`make (\w+)`", (PROJECT / "CONTRIBUTING.md").read_text(encoding="utf-8")))
    assert {"lint", "quick", "test", "wheel"} <= named <= targets
