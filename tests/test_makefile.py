"""The Makefile passes the interpreter that PYTHON names on to its scripts."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SHOW = "--eval=show: ; @printf '%s' \"$$PYTHON\""


def make(*arguments: str, **variables: str) -> str:
    """What `make` prints with these arguments and environment variables, started outside any other make."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "PYTHON"}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment | variables, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("arguments", "variables"), [(["PYTHON=/a/python"], {}), ([], {"PYTHON": "/a/python"})])
def test_scripts_get_the_named_interpreter(arguments: list[str], variables: dict[str, str]) -> None:
    assert make(SHOW, "show", *arguments, **variables) == "/a/python"


def test_scripts_choose_where_none_is_named() -> None:
    assert make(SHOW, "show") == ""


def test_gpu_takes_another_environment_only_from_the_command_line() -> None:
    commands = make("--dry-run", "--old-file=.venv/ready", "gpu", PYTHON="/a/python").splitlines()
    assert len(commands) == 2
    assert all(command.startswith(".venv/bin/python -m ") for command in commands)
    named = make("--dry-run", "gpu", "PYTHON=/a/python").splitlines()
    assert named == [command.replace(".venv/bin/python", "/a/python") for command in commands]
