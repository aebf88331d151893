"""What a run says of its time: the plan that it finds, the one that it makes itself, and the line that it leaves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deit_fast.config import RunConfig
from deit_fast.plan import ledger
from deit_fast.plan.prediction import Prediction
from deit_fast.plan.training import train
from deit_fast.record.clock import KINDS
from deit_fast.record.log import read_events
from deit_fast.record.run import hardware

MakeRun = Callable[..., RunConfig]
FEW = {"data.subset": 256}  # images


def test_a_run_finds_its_plan_and_keeps_it_beside_what_happened(tiny_run: MakeRun) -> None:
    config = tiny_run(**FEW)
    folder = Path(config.run.dir)
    seconds = dict.fromkeys(KINDS, 1.5)
    plan = Prediction(seconds, 9.0, 12.0, "plan", seconds)
    machine, key = ledger.machine_of(hardware()), ledger.key_of(config, 1)
    ledger.append(folder.parent, "plan", machine=machine, key=key, prediction=plan.as_dict())
    summary = train(config, [])
    assert summary["prediction"] == plan.as_dict()
    (line,) = (event["message"] for event in read_events(folder / "log.jsonl") if event["event"] == "forecast")
    assert line == "expected to take 0.003 hours (0.003 to 0.003), by its plan, for 2 epochs"
    (outcome,) = ledger.outcomes(ledger.read(folder.parent), machine)
    assert outcome.prediction == plan
    assert outcome.actual == summary["seconds"]


def test_a_run_without_a_plan_makes_one_of_its_first_epochs(tiny_run: MakeRun) -> None:
    summary = train(tiny_run(**FEW, **{"train.epochs": 3}), [])
    assert summary["prediction"]["source"] == "first epochs"
    folder = Path(tiny_run().run.dir).parent
    assert ledger.outcomes(ledger.read(folder), ledger.machine_of(hardware())) == []  # it was not measured


def test_a_ledger_that_cannot_be_written_fails_no_run(tiny_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny_run(**FEW, **{"train.epochs": 1, "schedule.warmup_epochs": 0})
    (Path(config.run.dir).parent / ledger.LEDGER).mkdir()
    assert train(config, [])["epoch"] == 0
    assert "ledger.jsonl: cannot be written (Is a directory): no plan learns of this run" in capsys.readouterr().out


def test_a_broken_ledger_stops_no_run(tiny_run: MakeRun) -> None:
    config = tiny_run(**FEW, **{"train.epochs": 1, "schedule.warmup_epochs": 0})
    folder = Path(config.run.dir)
    (folder.parent / ledger.LEDGER).write_text("{\n")
    train(config, [])
    (line,) = (event["message"] for event in read_events(folder / "log.jsonl") if event["event"] == "forecast")
    assert line.startswith("no plan is read: ")
    assert "line 1: broken" in line
    assert (folder.parent / ledger.LEDGER).read_text().startswith("{\n{")
