"""Imports point downward: which part of the project, a room, may import which, read from every file."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import deit_fast

PROJECT = Path(__file__).parents[1]
PACKAGE = "deit_fast"

# A room may import itself, the rooms named here, whatever those may import, `config` and `cores`. The rooms directly in the
# package are its folders and files, those of `data` its folders; write_datasets stands beside it.
MAY_IMPORT = {
    "__main__": {"cli", "record", "ending"},
    "write_datasets": {"__main__", "data.convert"},
    "cli": {"commands", "options", "shipped"},
    "commands": {"benchmarks", "sweep", "report", "looking", "demo", "data.regroup", "teach", "predict"},
    "options": {"shipped"},
    "benchmarks": {"plan", "data.examine"},
    "teach": {"plan"},
    "sweep": {"plan", "options", "shipped"},
    "report": {"record"},
    "looking": {"train", "report", "data.convert"},
    "plan": {"train", "shipped"},
    "predict": {"export", "data.convert"},
    "export": {"train"},
    "demo": set(),
    "train": {"data.load", "model", "record", "labels"},
    "data": {"data.convert"},
    "data.regroup": {"data.examine"},
    "data.examine": {"data.convert"},
    "data.load": {"data.fetch", "augment"},
    "data.fetch": {"data.format", "output", "bar"},
    "data.convert": {"data.load", "ending"},
    "data.format": {"kernels"},
    "augment": {"kernels"},
    "kernels": set(),
    "model": set(),
    "labels": set(),
    "record": {"output", "bar"},
    "output": set(),
    "bar": set(),
    "ending": set(),
    "shipped": set(),
    "config": set(),
    "cores": set(),
    "__init__": {"cli", "plan", "data.examine", "data"},  # the public interface; no room imports it, see PUBLIC
}
# The room whose files say what a command is, and import what it runs only when it runs: what imports them reaches no further
DECLARATIONS = "commands"
# What users import from the package itself: within it, a name is imported from where it is defined
PUBLIC = set(deit_fast.__all__) - {"__version__"}
# A foreign module, and the files or folders that may import it
FENCED = {
    "fastargs": ["deit_fast/cli.py"],
    "tqdm": ["deit_fast/bar.py"],
    "ffcv": ["deit_fast/data/", "deit_fast/benchmarks/rivals/"],
    "numba.cuda": ["deit_fast/kernels/cuda/driver.py"],
}


def reach(room: str) -> set[str]:
    below = set().union(*({other} if other == DECLARATIONS else reach(other) for other in MAY_IMPORT[room]))
    return {room, "config", "cores"} | below


def imported(source: str, path: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of all that a file imports, inside functions as well; `from a import b` gives a and a.b."""
    package = path.removesuffix(".py").split("/")[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*start, *([node.module] if node.module else [])])
            yield node.lineno, module
            yield from ((node.lineno, f"{module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if node.value.id == "numba":  # `import numba; numba.cuda.jit` needs no import of its own
                yield node.lineno, f"numba.{node.attr}"
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in ("import_module", "__import__"):
                yield node.lineno, str(node.args[0].value)


def _room(parts: list[str]) -> str:
    """The room in which a module stands, from the parts of its name within the package."""
    inner = ".".join(parts[:2])
    return inner if inner in MAY_IMPORT else parts[0]


def violations(source: str, path: str) -> list[str]:
    """The imports of a file that break the rules, as `path:line: what`."""
    parts = path.removesuffix(".py").split("/")
    room = _room(parts[1:] if parts[0] == PACKAGE else parts)
    if room not in MAY_IMPORT:
        return [f"{path}:1: stands in no room"]
    found = []
    for line, name in imported(source, path):
        target = name.split(".")
        other = _room(target[1:]) if target[0] == PACKAGE and len(target) > 1 else target[0]
        ours = target[0] in (PACKAGE, "write_datasets", "tests") and other != PACKAGE
        if ours and other in {*MAY_IMPORT, "tests"} - reach(room):
            found.append(f"{path}:{line}: {room} imports {other}")
        if parts[0] == PACKAGE and target[0] == PACKAGE and other in PUBLIC:
            found.append(f"{path}:{line}: {room} imports {other} by the public interface")
        for module, homes in FENCED.items():
            if f"{name}.".startswith(f"{module}.") and not path.startswith(tuple(homes)):
                found.append(f"{path}:{line}: {module} outside {homes[0]}")
    return sorted(set(found))


def python_files() -> list[str]:
    files = [path for folder in (PACKAGE, "write_datasets") for path in (PROJECT / folder).rglob("*.py")]
    return sorted(path.relative_to(PROJECT).as_posix() for path in files)


@pytest.mark.parametrize("path", python_files())
def test_imports_point_downward(path: str) -> None:
    assert violations((PROJECT / path).read_text(encoding="utf-8"), path) == []


def test_every_room_is_there() -> None:
    """A rule for a room that no longer exists would check nothing."""
    rooms = {_room(path.removesuffix(".py").split("/")[1:]) for path in python_files() if path.startswith(f"{PACKAGE}/")}
    assert rooms == set(MAY_IMPORT) - {"write_datasets"}
    assert all((PROJECT / home).exists() for homes in FENCED.values() for home in homes)


@pytest.mark.parametrize(
    ("path", "source", "wanted"),
    [
        ("deit_fast/data/a.py", "import deit_fast.train.loop", "1: data imports train"),
        ("deit_fast/data/a.py", "from deit_fast import model", "1: data imports model"),
        ("deit_fast/data/a.py", "from .. import model", "1: data imports model"),
        ("deit_fast/data/a.py", "from ..record.clock import Clock", "1: data imports record"),
        ("deit_fast/data/a.py", "def f():\n    from deit_fast.benchmarks import bench", "2: data imports benchmarks"),
        ("deit_fast/augment/a.py", "from deit_fast.data import order", "1: augment imports data"),
        ("deit_fast/data/format/a.py", "from deit_fast.data.load import loader", "1: data.format imports data.load"),
        ("deit_fast/kernels/a.py", "from deit_fast.augment import policy", "1: kernels imports augment"),
        ("deit_fast/augment/a.py", "import ffcv.loader", "1: ffcv outside deit_fast/data/"),
        ("deit_fast/model/a.py", "from deit_fast.augment import rng", "1: model imports augment"),
        ("deit_fast/model/a.py", "from ffcv import loader", "1: ffcv outside deit_fast/data/"),
        ("deit_fast/record/a.py", "from deit_fast.train import ema", "1: record imports train"),
        ("deit_fast/train/a.py", "from deit_fast.plan import plan", "1: train imports plan"),
        ("deit_fast/train/a.py", "import fastargs", "1: fastargs outside deit_fast/cli.py"),
        ("deit_fast/train/a.py", "import ffcv", "1: ffcv outside deit_fast/data/"),
        ("deit_fast/sweep/a.py", "from deit_fast.cli import parse", "1: sweep imports cli"),
        ("deit_fast/sweep/a.py", "from write_datasets import write_imagenet", "1: sweep imports write_datasets"),
        ("deit_fast/config/run.py", "from deit_fast import cli", "1: config imports cli"),
        ("deit_fast/cores.py", "from deit_fast.data import order", "1: cores imports data"),
        ("deit_fast/cli.py", "from deit_fast.data import write", "1: cli imports data"),
        ("deit_fast/__main__.py", "from deit_fast.plan.plan import plan", "1: __main__ imports plan"),
        ("deit_fast/commands/a.py", "def f():\n    from deit_fast.cli import parse", "2: commands imports cli"),
        ("deit_fast/__init__.py", "from .sweep import file", "1: __init__ imports sweep"),
        ("deit_fast/model/a.py", "from deit_fast import train_loader", "1: model imports train_loader by the public interface"),
        ("deit_fast/train/a.py", "from tests import test_cli", "1: train imports tests"),
        ("deit_fast/data/ops.py", "from numba import cuda", "1: numba.cuda outside deit_fast/kernels/cuda/driver.py"),
        ("deit_fast/data/ops.py", "import numba\nnumba.cuda.jit", "2: numba.cuda outside deit_fast/kernels/cuda/driver.py"),
        ("deit_fast/train/a.py", "import importlib as i\ni.import_module('ffcv')", "2: ffcv outside deit_fast/data/"),
        ("deit_fast/misc/a.py", "", "1: stands in no room"),
        ("deit_fast/misc.py", "", "1: stands in no room"),
    ],
)
def test_a_violation_is_found(path: str, source: str, wanted: str) -> None:
    assert violations(source, path) == [f"{path}:{wanted}"]


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("deit_fast/data/a.py", "import ffcv\nfrom deit_fast.augment import rng\nfrom deit_fast.config import option"),
        ("deit_fast/data/a.py", "from . import order\nfrom .order import x\nfrom deit_fast import __version__"),
        ("deit_fast/sweep/a.py", "from deit_fast.data.load import order\nfrom deit_fast.model import create"),
        ("deit_fast/kernels/cuda/driver.py", "from numba import cuda, njit"),
        ("deit_fast/data/a.py", "import numba, torch.cuda, ffcv_like\nnumba.njit"),
        ("write_datasets/a.py", "from deit_fast.__main__ import main\nfrom deit_fast.data.convert.write import write_beton"),
        ("deit_fast/__main__.py", "from deit_fast.cli import parse\nfrom deit_fast.record.run import write_bytes"),
        ("deit_fast/cli.py", "from deit_fast.commands import COMMANDS"),
        ("deit_fast/commands/a.py", "def f():\n    from deit_fast.train import slurm\n    from deit_fast.plan import plan"),
        ("deit_fast/record/a.py", "import data, model"),
    ],
)
def test_what_is_allowed_is_not_found(path: str, source: str) -> None:
    assert violations(source, path) == []


def test_no_file_of_the_package_uses_the_shared_folder() -> None:
    for path in (PROJECT / PACKAGE).rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert b"shared/" not in path.read_bytes(), path
