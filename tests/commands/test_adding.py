"""A command and a kind of bench are added as CONTRIBUTING.md says, to a copy of the package."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.adding import copy_of_package, output, replace

DECLARATION = """
from deit_fast.commands.command import Command

{name} = Command("count to a number", takes=("bench.steps",), run=lambda call: print(*range(call.config.bench.steps)) or {{}})
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return copy_of_package(tmp_path)


def test_a_command_is_a_file_and_a_name(copy: Path) -> None:
    (copy / "commands" / "count.py").write_text(DECLARATION.format(name="COMMAND"), encoding="utf-8")
    replace(copy / "commands" / "__init__.py", '"demo")', '"demo", "count")')
    assert "  count   count to a number\n" in output(copy, "-m", "deit_fast", "--help")
    assert "--bench.steps " in output(copy, "-m", "deit_fast", "count", "--help")
    assert output(copy, "-m", "deit_fast", "count", "--bench.steps=3") == "0 1 2\n"


def test_a_kind_of_bench_is_a_file_and_a_name(copy: Path) -> None:
    (copy / "commands" / "bench" / "count.py").write_text(DECLARATION.format(name="KIND"), encoding="utf-8")
    replace(copy / "config" / "study.py", '"fidelity"]', '"fidelity", "count"]')
    assert "  count     count to a number\n" in output(copy, "-m", "deit_fast", "bench", "--help")
    assert output(copy, "-m", "deit_fast", "bench", "count", "--bench.steps=3") == "0 1 2\n"
