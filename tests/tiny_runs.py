"""Makes betons of scikit-learn's digits, and configurations of runs that take seconds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from deit_fast.config import RunConfig, SourceConfig, WriteConfig
from deit_fast.data.convert.write import write_beton
from deit_fast.demo.digits import make_digits
from deit_fast.plan.training import train
from deit_fast.record.log import read_events

MakeRun = Callable[..., RunConfig]  # the fixture `tiny_run`
TINY = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}


def with_options(options: Mapping[str, Any]) -> RunConfig:
    """The default configuration with some options changed, given as {"section.option": value}."""
    return RunConfig().changed(options)


@functools.cache
def digits_in(base: Path) -> Path:
    """The folder of `digits` in a session's temporary folder; made once, though several conftest.py import the fixture."""
    folder = base / "digits"
    make_digits(folder)
    for split in ("train", "val"):
        write_beton(SourceConfig(path=str(folder / split)), WriteConfig(out=str(folder / f"{split}.beton"), num_workers=1))
    return folder


@pytest.fixture(scope="session")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.beton, val.beton and the image folders behind them. Tests must not change it."""
    return digits_in(tmp_path_factory.getbasetemp())


def tiny_config(digits: Path, folder: Path, **changes: Any) -> RunConfig:
    """A run of two epochs on the digits with a very small DeiT; changes as {"section.option": value}."""
    options = {
        "data.train": str(digits / "train.beton"),
        "data.val": str(digits / "val.beton"),
        "data.batch_size": 64,
        "data.resolution": 32,
        "data.num_workers": 1,
        "augment.flip": 0.0,
        "model.name": "deit_tiny_patch16_224",
        "model.options": TINY,
        "schedule.warmup_epochs": 1,
        "schedule.update": "step",
        "train.epochs": 2,
        "train.ema_decay": 0.9,
        "train.device": "cpu",
        "train.log_every": 5,
        "run.dir": str(folder),
        **changes,
    }
    return with_options(options)


@pytest.fixture
def tiny_run(digits: Path, tmp_path: Path) -> MakeRun:
    """tiny_run(**changes): the configuration of a run of seconds in a folder of the test's own."""
    return lambda **changes: tiny_config(digits, tmp_path / "run", **changes)


@pytest.fixture(scope="session")
def finished_run(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, dict[str, Any]]:
    """The configuration and the summary of a finished run. Tests must not change its folder."""
    config = tiny_config(digits, tmp_path_factory.mktemp("finished") / "run")
    return config, train(config, ["deit-fast", "train"])


def events_of(folder: Path, name: str) -> list[dict[str, Any]]:
    """The events of that name in a run's log, in order; none if there is no log yet."""
    log = folder / "log.jsonl"
    return [event for event in read_events(log) if event["event"] == name] if log.exists() else []
