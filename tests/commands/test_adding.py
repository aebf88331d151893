"""A command and a kind of bench are added as CONTRIBUTING.md says, to a copy of the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import deit_fast

PACKAGE = Path(deit_fast.__file__).parent
DECLARATION = """
from deit_fast.commands.command import Command

{name} = Command("count to a number", takes=("bench.steps",), run=lambda call: print(*range(call.config.bench.steps)) or {{}})
"""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(PACKAGE, tmp_path / "deit_fast", ignore=shutil.ignore_patterns("__pycache__", "*_configs"))
    return tmp_path / "deit_fast"


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")


def output(copy: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(copy.parent)}
    command = [sys.executable, "-m", "deit_fast", *words]
    done = subprocess.run(command, env=environment, cwd=copy.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_command_is_a_file_and_a_name(copy: Path) -> None:
    (copy / "commands" / "count.py").write_text(DECLARATION.format(name="COMMAND"), encoding="utf-8")
    replace(copy / "commands" / "__init__.py", '"demo")', '"demo", "count")')
    assert "  count   count to a number\n" in output(copy, "--help")
    assert "--bench.steps " in output(copy, "count", "--help")
    assert output(copy, "count", "--bench.steps=3") == "0 1 2\n"


def test_a_kind_of_bench_is_a_file_and_a_name(copy: Path) -> None:
    (copy / "commands" / "bench" / "count.py").write_text(DECLARATION.format(name="KIND"), encoding="utf-8")
    replace(copy / "config" / "study.py", '"fidelity"]', '"fidelity", "count"]')
    assert "  count     count to a number\n" in output(copy, "bench", "--help")
    assert output(copy, "bench", "count", "--bench.steps=3") == "0 1 2\n"
