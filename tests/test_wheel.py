"""The wheel holds all files of the package, and works without the repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

import deit_fast

PROJECT = Path(__file__).parents[1]
PARTS = ("pyproject.toml", "README.md", "LICENSE", "deit_fast", "deit_configs", "rn_configs")  # what a wheel is made of


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of the repository, as `make wheel` builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "deit_fast"
    copy.mkdir()
    for name in PARTS:
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(PROJECT / name, copy / name)
    options = ["--quiet", "--no-deps", "--no-build-isolation", f"--wheel-dir={folder}"]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(copy)], check=True, timeout=300)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_the_package(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if name.startswith("deit_fast/")}
    package = PROJECT / "deit_fast"
    own = {Path(folder, file) for folder, _, files in os.walk(package, followlinks=True) for file in files}
    assert held == {path.relative_to(PROJECT).as_posix() for path in own if path.parent.name != "__pycache__"}
    assert {"deit_fast/py.typed", "deit_fast/shipped/prices.yaml", "deit_fast/shipped/rn_configs/resnet50.yaml"} <= held
    assert {"deit_fast/shipped/deit_configs/deit3/base.yaml", "deit_fast/report/published.yaml"} <= held


@pytest.mark.slow
def test_its_metadata_name_license_version_and_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (folder,) = {name.partition("/")[0] for name in archive.namelist()} - {"deit_fast"}
        metadata = Parser().parsestr(archive.read(f"{folder}/METADATA").decode())
        assert archive.read(f"{folder}/licenses/LICENSE") == (PROJECT / "LICENSE").read_bytes()
        assert "deit-fast = deit_fast.__main__:run" in archive.read(f"{folder}/entry_points.txt").decode()
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata["Version"] == deit_fast.__version__
    assert "Programming Language :: Python :: 3.13" in metadata.get_all("Classifier", [])


@pytest.mark.slow
def test_its_recipes_are_found_in_an_empty_folder(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    (tmp_path / "empty").mkdir()
    command = [
        sys.executable,
        "-m",
        "deit_fast",
        "train",
        "--config-file",
        "rn_configs/efficientnet_b0.yaml",
    ]  # with a base elsewhere
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(command, cwd=tmp_path / "empty", env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stderr
    assert "data.train is not set" in done.stderr
