"""Makes copies of the package, in which tests follow the instructions of CONTRIBUTING.md."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import deit_fast

PACKAGE = Path(deit_fast.__file__).parent


def copy_of_package(folder: Path) -> Path:
    """A copy in the folder, without compiled functions."""
    shutil.copytree(PACKAGE, folder / "deit_fast", ignore=shutil.ignore_patterns("__pycache__", "*_configs"))
    return folder / "deit_fast"


def replace(file: Path, old: str, new: str) -> None:
    """Replaces a text in a file, which must hold it exactly once."""
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, (file, old)
    file.write_text(text.replace(old, new), encoding="utf-8")


def add_before(file: Path, old: str, new: str) -> None:
    replace(file, old, new + old)


def add_at_end(file: Path, new: str) -> None:
    file.write_text(file.read_text(encoding="utf-8") + new, encoding="utf-8")


def output(copy: Path, *words: str, **environment: str) -> str:
    """What a Python process prints that imports the copy; words: its arguments. It must succeed."""
    variables = {**os.environ, "PYTHONPATH": str(copy.parent), **environment}
    done = subprocess.run([sys.executable, *words], env=variables, cwd=copy.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
