"""The ledger: what it keeps, which plan a run finds, and how earlier runs move and widen a prediction."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from deit_fast.config import RunConfig, UserError
from deit_fast.plan import ledger
from deit_fast.plan.prediction import Prediction, prediction_of
from deit_fast.record.clock import KINDS

HERE = "a processor, 2 cores"


def seconds(**others: float) -> dict[str, float]:
    return {**dict.fromkeys(KINDS, 0.0), "setup": 3.0, "compute": 90.0, **others}


def add_run(folder: Path, machine: str = HERE, extra: float = 0.0, sessions: int = 1, **actual: float) -> None:
    measured = seconds()
    prediction = Prediction(measured, 80.0, 110.0, "plan", measured)
    ledger.append(
        folder, "run", run="a", machine=machine, key="k", sessions=sessions, prediction=prediction.as_dict(),
        actual=seconds(**actual), wall_seconds=1.0, first_epoch_extra=extra,
    )  # fmt: skip


def test_a_prediction_comes_back_as_it_was() -> None:
    one = Prediction(seconds(), 80.0, 110.0, "plan", seconds(setup=2.0))
    assert prediction_of(one.as_dict()) == one
    assert one.as_dict()["wall_seconds"] == 93.0


def test_the_newest_plan_of_the_same_run_on_the_same_machine_is_found(tmp_path: Path) -> None:
    assert ledger.planned(ledger.read(tmp_path), "k", HERE) is None
    for number, (key, machine) in enumerate([("k", HERE), ("k", HERE), ("other", HERE), ("k", "elsewhere")]):
        prediction = Prediction(seconds(compute=float(number)), 1.0, 2.0)
        ledger.append(tmp_path, "plan", key=key, machine=machine, prediction=prediction.as_dict())
    found = ledger.planned(ledger.read(tmp_path), "k", HERE)
    assert found is not None
    assert found.seconds["compute"] == 1.0


def test_the_key_is_that_of_what_decides_the_time() -> None:
    config = RunConfig()
    key = ledger.key_of(config, 1)
    assert ledger.key_of(config.changed({"run.dir": "elsewhere", "train.resume": True}), 1) == key
    assert ledger.key_of(config, 2) != key
    assert ledger.key_of(config.changed({"data.batch_size": 7}), 1) != key
    assert ledger.key_of(config.changed({"train.epochs": 7}), 1) != key


def test_a_machine_is_its_processor_cores_and_gpus() -> None:
    gpus = [{"name": "H200"}, {"name": "H200"}]
    assert ledger.machine_of({"cpu": "a processor", "allowed_cores": 2, "gpus": []}) == HERE
    assert ledger.machine_of({"cpu": "a processor", "allowed_cores": 2, "gpus": gpus}) == f"{HERE}, 2 x H200"


def test_without_earlier_runs_the_interval_is_wide() -> None:
    prediction = ledger.corrected(seconds(), 0.0, [], "plan")
    assert prediction.seconds == prediction.measured == seconds()
    assert prediction.low == pytest.approx(93 * math.exp(-1.96 * 0.07))
    noisy = ledger.corrected(seconds(), 20.0, [], "plan")
    assert noisy.high > prediction.high


def test_earlier_runs_of_the_machine_move_starting_compiling_and_the_first_epoch(tmp_path: Path) -> None:
    for setup, extra in ((5.0, 1.0), (6.0, 2.0), (9.0, 30.0)):
        add_run(tmp_path, setup=setup, compile=1.0, extra=extra)
    add_run(tmp_path, machine="elsewhere", setup=500.0)
    add_run(tmp_path, sessions=2, setup=500.0)
    earlier = ledger.outcomes(ledger.read(tmp_path), HERE)
    assert len(earlier) == 3
    prediction = ledger.corrected(seconds(setup=4.0), 0.0, earlier, "plan")
    assert prediction.seconds == seconds(setup=7.0, compile=1.0, data_wait=2.0)
    assert prediction.measured == seconds(setup=4.0)
    exact = [replace(run, actual=dict(run.prediction.seconds)) for run in earlier]
    assert ledger.scatter(exact) == pytest.approx(0.02)
    assert ledger.scatter(earlier) > 0.03


@pytest.mark.parametrize(
    "line",
    ["{", "[]", "{}", '{"event": "plan", "machine": "m"}', '{"event": "run", "machine": 3, "prediction": null}',
     '{"event": "plan", "machine": "m", "prediction": {"seconds": {}}}', "\xff"],
)  # fmt: skip
def test_a_broken_line_is_named_and_nothing_is_overwritten(line: str, tmp_path: Path) -> None:
    add_run(tmp_path)
    path = tmp_path / ledger.LEDGER
    with path.open("ab") as file:
        file.write(line.encode("latin-1") + b"\n")
    before = path.read_bytes()
    if "null" in line:  # a run without a prediction says nothing of its own
        assert len(ledger.read(tmp_path)) == 2
        return
    with pytest.raises(UserError, match=r"ledger.jsonl, line 2: broken; mend or delete that line"):
        ledger.read(tmp_path)
    assert path.read_bytes() == before


def test_a_run_is_a_line_of_its_own(tmp_path: Path) -> None:
    values: list[dict[str, Any]] = [{"value": number} for number in range(3)]
    for fields in values:
        ledger.append(tmp_path, "other", **fields)
    assert [entry["value"] for entry in ledger.read(tmp_path)] == [0, 1, 2]
