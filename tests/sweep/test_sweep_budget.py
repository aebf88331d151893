"""Dry runs and budgets of sweeps, with a stand-in for training and made-up predictions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deit_fast.config import RunConfig, UserError
from deit_fast.plan import ledger
from deit_fast.plan.prediction import Prediction
from deit_fast.record.log import read_events
from deit_fast.record.run import hardware
from tests.sweep.sweeps import run


class Oracle:
    """Predicts 36 seconds for each millisecond of the stand-in's, except where a seed cannot be predicted."""

    def __init__(self, *unknown: int) -> None:
        self.asked: list[int] = []
        self._unknown = unknown

    def __call__(self, config: RunConfig) -> Prediction:
        self.asked.append(config.train.epochs)
        if config.train.epochs in self._unknown:
            raise UserError("no such beton")
        seconds = 36.0 * config.train.epochs
        return Prediction({"compute": seconds}, 0.9 * seconds, 1.1 * seconds)


def epochs_file(folder: Path, epochs: list[int], more: str = "", seed: int = 1) -> str:
    """A sweep with a point for each number of epochs."""
    options = f"{{data: {{train: a, val: b}}, train: {{device: cpu, seed: {seed}}}, schedule.warmup_epochs: 0}}"
    path = folder / "s.yaml"
    path.write_text(f"options: {options}\ngrid: {{train.epochs: {epochs}{more}}}\n")
    return str(path)


def test_dry_run_says_what_it_costs_and_leaves_nothing(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = epochs_file(tmp_path, [10, 20, 30], ", optim.lr: [0.1, 0.2]")
    oracle = Oracle(30)
    result = run(file, out, "--dry-run", "--run.dollars_per_hour=2", predict=oracle)
    assert not out.exists()
    assert oracle.asked == [10, 20, 30]  # a rate takes no time
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert printed[1] == ["optim.lr=0.1,train.epochs=10", "0.100", "0.090", "0.110", "0.200"]
    assert printed[-2] == ["optim.lr=0.2,train.epochs=30", "–", "–", "–", "–", "no", "such", "beton"]
    assert printed[-1][:7] == ["total", "to", "run", "0.600", "–", "–", "1.200"]
    assert result["to_run"] == {"hours": pytest.approx(0.6), "dollars": pytest.approx(1.2), "num_points": 6, "num_unknown": 2}

    # half of it done, the rest is what a dry run adds up
    done = [f"optim.lr={rate},train.epochs=10" for rate in (0.1, 0.2)]
    for name in done:
        (out / name).mkdir(parents=True)
        (out / name / "summary.json").write_text("{}")
    assert run(file, out, "--dry-run", predict=oracle)["to_run"]["hours"] == pytest.approx(0.4)
    assert sorted(path.name for path in out.iterdir()) == done


@pytest.mark.parametrize("budget", ["--sweep.hours=0.35", "--sweep.dollars=1.05"])
def test_what_does_not_fit_the_budget_is_not_started(
    tmp_path: Path, out: Path, budget: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (budget, "--run.dollars_per_hour=3")
    # 10 is predicted to take 0.1 hours, 30 0.3: they took none, so 10, 30 and 5 fit one after the other; 4 as well
    assert run(epochs_file(tmp_path, [10, 30, 5, 4]), out, *words, predict=Oracle())["num_finished"] == 4
    capsys.readouterr()
    kept = ledger.read(out)  # where each run looks for what was predicted of it
    assert [(entry["epochs"], entry["prediction"]["wall_seconds"]) for entry in kept] == [
        (epochs, 36.0 * epochs) for epochs in (10, 30, 5, 4)
    ]
    assert ledger.planned(kept, kept[1]["key"], ledger.machine_of(hardware())) is not None

    result = run(epochs_file(tmp_path, [10, 30, 5, 4, 40, 2]), out, *words, predict=Oracle())
    assert result["not_started"] == ["train.epochs=40", "train.epochs=2"]
    assert not (out / "train.epochs=2").exists()
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "not started" in line]
    assert line.startswith(f"2 point(s) not started: {budget[2:]}: ")
    assert "deit-fast sweep" in line


@pytest.mark.slow
def test_budget_counts_what_was_spent_and_what_runs(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The second run would not fit beside what is predicted of the first, and does when that took less."""
    file = epochs_file(tmp_path, [10, 20], seed=300)
    run(file, out, "--sweep.at_once=2", "--sweep.hours=0.25", predict=Oracle())
    said = [line.split()[2] for line in capsys.readouterr().out.splitlines() if line.startswith("point ")]
    assert said == ["starts", "finished,", "starts", "finished,"]

    file = epochs_file(tmp_path, [10, 20, 16, 15], seed=300)
    folder = out / "train.epochs=10"
    (folder / "summary.json").write_text('{"wall_seconds": 1.0}')
    (folder / "run.json").write_text(json.dumps({"format": 1, "sessions": [{"started": "2026-01-01T00:00:00+00:00"}]}))
    (folder / "log.jsonl").write_text('{"event": "end", "time": 1767226200.0}\n')  # 10 minutes of that day
    result = run(file, out, "--sweep.hours=0.32", predict=Oracle())
    assert result["not_started"] == ["train.epochs=16", "train.epochs=15"]  # 1/6 of an hour, and 0.16 hours
    assert run(file, out, "--sweep.hours=0.34", predict=Oracle())["num_finished"] == 4


def test_without_a_prediction_a_point_takes_as_long_as_the_longest(tmp_path: Path, out: Path) -> None:
    file = epochs_file(tmp_path, [10, 20, 30])
    assert run(file, out, "--sweep.hours=0.001", predict=Oracle(10, 20, 30))["num_finished"] == 3
    log = out / "points.jsonl"
    events = read_events(log)
    events[0]["wall_seconds"] = 1800
    log.write_text("".join(json.dumps(event) + "\n" for event in events))
    file = epochs_file(tmp_path, [10, 20, 30, 40])
    assert run(file, out, "--sweep.hours=0.9", predict=Oracle(40))["not_started"] == ["train.epochs=40"]
    assert run(file, out, "--sweep.hours=1.1", predict=Oracle(40))["not_started"] == []
