"""Where views are made, when the configuration leaves it open: what is left out, what is measured, what is taken."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from deit_fast.config import RunConfig, UserError
from deit_fast.plan.placement import PLACEMENTS, placed, resumed, training_rate
from deit_fast.plan.training import train
from deit_fast.record.log import read_events
from deit_fast.train.checkpoint import load_checkpoint
from deit_fast.train.dist import World
from tests.train.learners import CPU, small_config

MakeRun = Callable[..., RunConfig]
ALONE = World(0, 1, CPU)
OPEN = {"data.decode": "auto", "augment.device": "auto"}
WITHOUT_GPU = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


def _placement_of(config: RunConfig) -> tuple[str, str]:
    return config.data.decode, config.augment.device


@pytest.fixture
def everything_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deit_fast.plan.placement.check_device", lambda *_: None)


def _measured(rates: Mapping[Any, float]) -> Callable[[RunConfig, World], float]:
    return lambda config, world: rates[_placement_of(config)]


@pytest.mark.usefixtures("everything_there")
@pytest.mark.parametrize("best", PLACEMENTS)
def test_the_fastest_is_taken_and_each_rate_said(best: tuple[str, str]) -> None:
    rates = {one: 2000.0 if one == best else 1000.0 for one in PLACEMENTS}
    config, lines = placed(small_config(OPEN), ALONE, _measured(rates))
    assert _placement_of(config) == best
    assert len(lines) == 3
    (taken,) = (line for line in lines if "taken" in line)
    assert taken == f"data.decode={best[0]}, augment.device={best[1]}: 2,000 images/s, taken"


@pytest.mark.usefixtures("everything_there")
def test_what_is_said_is_not_measured() -> None:
    asked: list[tuple[str, str]] = []

    def measure(config: RunConfig, world: World) -> float:
        asked.append(_placement_of(config))
        return len(asked)

    config, _ = placed(small_config({"data.decode": "cpu", "augment.device": "auto"}), ALONE, measure)
    assert asked == [("cpu", "cpu"), ("cpu", "gpu")]
    assert _placement_of(config) == ("cpu", "gpu")
    config, lines = placed(small_config({"data.decode": "auto", "augment.device": "cpu"}), ALONE, measure)
    assert len(asked) == 2  # one is left: nothing to measure
    assert (_placement_of(config), lines) == (("cpu", "cpu"), ["data.decode=cpu, augment.device=cpu: what is left"])
    unchanged = small_config({"data.decode": "gpu", "augment.device": "gpu"})
    assert placed(unchanged, ALONE, measure) == (unchanged, [])


@WITHOUT_GPU
def test_without_a_gpu_training_says_why_it_stays_on_the_cpu(tiny_run: MakeRun) -> None:
    config = tiny_run(**OPEN, **{"train.epochs": 1, "schedule.warmup_epochs": 0.0, "data.subset": 64})
    train(config, [])
    events = read_events(Path(config.run.dir) / "log.jsonl")
    lines = [event["message"] for event in events if event["event"] == "placement"]
    assert len(lines) == 3
    assert all("left out: " in line and "the GPU path needs" in line for line in lines[:2])
    assert lines[2] == "data.decode=cpu, augment.device=cpu: what is left"
    content = load_checkpoint(Path(config.run.dir) / "checkpoints" / "last.pt")
    assert (content["config"]["data"]["decode"], content["config"]["augment"]["device"]) == ("cpu", "cpu")


@WITHOUT_GPU
@pytest.mark.parametrize(
    "asked", [{"data.decode": "gpu", "augment.device": "gpu"}, {"data.decode": "gpu", "augment.device": "auto"}]
)
def test_what_cannot_be_is_one_line_before_any_folder(tiny_run: MakeRun, asked: dict[str, str]) -> None:
    config = tiny_run(**asked)
    with pytest.raises(UserError, match="the GPU path needs") as caught:
        train(config, [])
    assert "\n" not in str(caught.value)
    assert not Path(config.run.dir).exists()


@pytest.mark.parametrize(
    ("asked", "had", "wanted"),
    [
        ("auto auto", "gpu gpu", "gpu gpu"),
        ("auto auto", "cpu gpu", "cpu gpu"),
        ("cpu cpu", "gpu gpu", "cpu cpu"),
        ("gpu gpu", "cpu cpu", "gpu gpu"),
        ("cpu auto", "gpu gpu", "cpu gpu"),
        ("auto gpu", "cpu cpu", "cpu gpu"),
        ("gpu auto", "cpu cpu", "gpu gpu"),  # since there are no others
        ("auto cpu", "gpu gpu", "cpu cpu"),
        ("auto auto", "", "cpu cpu"),  # of an older version
    ],
)
def test_a_resumed_run_keeps_its_placement_unless_another_is_asked_for(asked: str, had: str, wanted: str) -> None:
    data, augment = ({name: place} for name, place in zip(("decode", "device"), (had or "- -").split(), strict=True))
    content = {"config": {"data": data, "augment": augment} if had else {"data": {}, "augment": {}}}
    config, lines = resumed(small_config(dict(zip(OPEN, asked.split(), strict=True))), content)
    assert _placement_of(config) == tuple(wanted.split())
    assert len(lines) == (wanted != (had or wanted))
    assert all(line.endswith("before: data.decode={}, augment.device={}".format(*had.split())) for line in lines)


def test_training_is_what_is_measured(tiny_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deit_fast.plan.placement._SECONDS", 0.2)
    assert training_rate(tiny_run(**{"train.log_every": 2}), ALONE) > 0
