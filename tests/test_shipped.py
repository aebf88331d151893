"""Files that come with the package are found by their names from any folder, and a file of one's own comes first."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from deit_fast.cli import parse
from deit_fast.config import UserError
from deit_fast.plan.prices import read_prices
from deit_fast.shipped import shipped
from deit_fast.sweep.file import read_sweep_file

PROJECT = Path(__file__).parents[1]
RECIPES = sorted(
    path.relative_to(PROJECT).as_posix()
    for path in PROJECT.glob("*_configs/**/*.yaml")
    if path.parent.name != "sweeps"  # these are no configurations
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_recipe_is_found_by_its_name_and_says_what_its_file_says() -> None:
    assert len(RECIPES) > 50
    for recipe in RECIPES:
        assert parse("train", ["--config-file", recipe]) == parse("train", ["--config-file", str(PROJECT / recipe)]), recipe


def test_a_sweep_and_prices_are_found(elsewhere: Path) -> None:
    name = "deit_configs/sweeps/digits.yaml"
    found, here = read_sweep_file(shipped(name)), read_sweep_file(PROJECT / name)
    assert [{key: given.value for key, given in point.options.items()} for point in found.points] == [
        {key: given.value for key, given in point.options.items()} for point in here.points
    ]
    assert {key: given.value for key, given in found.shared.items()} == {key: given.value for key, given in here.shared.items()}
    assert 2.16 in [price.dollars_per_hour for price in read_prices("prices.yaml", 0.0)]


def test_a_file_of_ones_own_comes_first(elsewhere: Path) -> None:
    own = elsewhere / "deit_configs" / "deit_small.yaml"
    own.parent.mkdir()
    own.write_text("train: {epochs: 7}\n")
    assert parse("train", ["--config-file=deit_configs/deit_small.yaml"]).train.epochs == 7
    own.unlink()
    usual = parse("train", ["--config-file=deit_configs/deit_small.yaml"])
    assert dataclasses.asdict(usual.model)["name"] == "deit_small_patch16_224"


@pytest.mark.parametrize(
    "name", ["deit_configs/deit_smal.yaml", "/deit_configs/deit_small.yaml", "../shipped/prices.yaml", "__init__.py"]
)
def test_another_name_stays_what_it_is(name: str) -> None:
    assert shipped(name) == Path(name)
    with pytest.raises(UserError, match=f"command line: cannot read {name}: No such file"):
        parse("train", [f"--config-file={name}"])


def test_a_base_is_found_beside_the_file_and_else_in_the_package(elsewhere: Path) -> None:
    recipe = "deit_configs/deit_tiny.yaml"
    (elsewhere / "folder").mkdir()
    own = elsewhere / "folder" / "own.yaml"
    own.write_text(f"base: {recipe}\ndata: {{batch_size: 77}}\n")
    config = parse("train", ["--config-file", str(own)])
    whole = parse("train", ["--config-file", recipe, "--data.batch_size=77"])
    assert config == whole
    sweep = elsewhere / "sweep.yaml"
    sweep.write_text(f"base: {recipe}\ngrid: {{data.batch_size: [1]}}\n")
    assert read_sweep_file(sweep).shared["model.name"].value == whole.model.name
    beside = elsewhere / "folder" / recipe
    beside.parent.mkdir()
    beside.write_text("model: {name: resnet18}\n")
    assert parse("train", ["--config-file", str(own)]).model.name == "resnet18"
