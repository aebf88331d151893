"""Runs inside a budget: how many epochs they get, what is refused, and how they end when time runs out."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from deit_fast.config import RunConfig, UserError, check_training
from deit_fast.plan import budget, ledger, planning
from deit_fast.plan.budget import Limit, limit_seconds, stretched
from deit_fast.plan.planning import RunPlanning
from deit_fast.plan.prediction import expected
from deit_fast.plan.training import train
from deit_fast.record import clock
from deit_fast.record.clock import KINDS, Clock
from deit_fast.record.log import read_events
from deit_fast.record.runs import load_run
from deit_fast.record.targets import outcome_of
from deit_fast.train.checkpoint import load_checkpoint
from deit_fast.train.dist import World
from deit_fast.train.schedule import lr_of_step
from tests.tiny_runs import with_options

MakeRun = Callable[..., RunConfig]


@pytest.fixture
def young_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of the tests, from whose creation a budget counts, is as good as new."""
    monkeypatch.setattr(clock, "process_seconds", lambda: 0.5)


def test_the_smaller_of_hours_and_dollars_counts() -> None:
    assert limit_seconds(RunConfig()) == float("inf")
    assert limit_seconds(with_options({"budget.hours": 2.0})) == 7200
    priced = {"budget.dollars": 3.0, "run.dollars_per_hour": 6.0}
    assert limit_seconds(with_options(priced)) == 1800
    assert limit_seconds(with_options({**priced, "budget.hours": 0.25})) == 900


def test_the_whole_schedule_is_scaled() -> None:
    options = {"train.epochs": 300, "schedule.warmup_epochs": 5.0, "schedule.decay_epochs": 30.0, "schedule.update": "step"}
    config = with_options(options)
    short = stretched(config, 30)
    assert (short.train.epochs, short.schedule.warmup_epochs, short.schedule.decay_epochs) == (30, 0.5, 3.0)
    for share in (0.01, 0.1, 0.5, 0.99):
        rates = []
        for one in (config, short):
            step = round(share * 3000 * one.train.epochs)
            at: dict[str, Any] = {"epochs": one.train.epochs, "epoch": 0, "step": step, "steps_per_epoch": 3000}
            rates.append(lr_of_step(one.schedule, peak=1.0, **at))
        assert rates[0] == pytest.approx(rates[1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"budget.dollars": 3.0}, "budget.dollars=3: run.dollars_per_hour is not set"),
        ({"budget.until": "top5=3"}, "budget.until=top5=3: want top1=PERCENT"),
        ({"budget.until": "top1=0"}, "budget.until=top1=0: want top1=PERCENT"),
        ({"budget.until": "top1=much"}, "budget.until=top1=much: want top1=PERCENT"),
    ],
)
def test_a_budget_that_lacks_something_is_refused(options: dict[str, Any], message: str) -> None:
    config = with_options({"data.train": "train.beton", "data.val": "val.beton", **options})
    with pytest.raises(UserError, match=f"^{message}"):
        check_training(config, 1)


@pytest.mark.slow
@pytest.mark.usefixtures("young_process")
def test_a_run_gets_as_many_epochs_as_fit_and_its_plan_is_kept(tiny_run: MakeRun) -> None:
    config = tiny_run(**{"train.epochs": 400, "budget.hours": 10 / 3600, "budget.seconds": 1.0, "data.subset": 128})
    summary = train(config, [])
    folder = Path(config.run.dir)
    asked = json.loads((folder / "run.json").read_text())["config"]
    epochs = asked["train"]["epochs"]
    assert epochs != 400
    assert asked["schedule"]["warmup_epochs"] == pytest.approx(epochs / 400)
    assert summary["stopped"] in ("", "budget")
    assert summary["prediction"]["source"] == "budget"
    assert sum(summary["seconds"].values()) < 10 + 2
    (entry,) = ledger.read(folder.parent)
    assert entry["actual"] == summary["seconds"]
    assert (entry["prediction"] is None) == (summary["stopped"] != "")
    assert load_checkpoint(folder / "checkpoints" / "last.pt")["config"]["train"]["epochs"] == epochs


@pytest.mark.slow
@pytest.mark.usefixtures("young_process")
def test_fewer_epochs_alone_where_more_are_not_wanted(tiny_run: MakeRun) -> None:
    options = {"budget.hours": 1.0, "budget.seconds": 1.0, "budget.longer": False, "train.epochs": 2}
    config = tiny_run(**options)
    assert train(config, [])["epoch"] == 1


@pytest.mark.slow
@pytest.mark.usefixtures("young_process")
def test_a_budget_without_time_is_refused_with_the_smallest_that_works(tiny_run: MakeRun) -> None:
    config = tiny_run(**{"budget.hours": 1e-5, "budget.seconds": 1.0})
    with pytest.raises(UserError, match=r"budget.hours=1e-05: one epoch .* want at least \d\.\d{4}$"):
        train(config, [])
    config = tiny_run(**{"budget.dollars": 0.01, "run.dollars_per_hour": 1000.0, "budget.seconds": 1.0})
    with pytest.raises(UserError, match=r"budget.dollars=0.01: one epoch .* want at least \d+\.\d\d$"):
        train(config, [])
    assert not Path(config.run.dir).exists()


class _Fast(Limit):
    """A budget that is spent after so many questions."""

    left = 0

    @property
    def is_spent(self) -> bool:
        type(self).left -= 1
        return self.left < 0


@pytest.mark.parametrize("questions", [7, 5])  # in the middle of the second epoch, and after the first
def test_a_spent_budget_ends_in_an_evaluated_checkpoint_and_can_be_raised(
    questions: int, tiny_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    _Fast.left = questions
    monkeypatch.setattr(planning, "Limit", _Fast)
    options = {"train.epochs": 4, "train.eval_every": 3, "data.subset": 5 * 64}
    config = tiny_run(**options)
    summary = train(config, [])
    folder = Path(config.run.dir)
    events = read_events(folder / "log.jsonl")
    assert summary["stopped"] == "budget"
    evaluations = [event for event in events if event["event"] == "eval"]
    assert {event["weights"] for event in evaluations} == {"model", "ema"}
    assert summary["best_top1"] == max(event["top1"] for event in evaluations)
    assert (folder / "checkpoints" / "best.pt").exists()
    assert json.loads((folder / "summary.json").read_text())["stopped"] == "budget"

    monkeypatch.undo()
    further = train(tiny_run(**options, **{"train.resume": True}), [])
    assert (further["epoch"], further["stopped"]) == (3, "")


def test_a_run_ends_when_its_target_is_reached(tiny_run: MakeRun) -> None:
    config = tiny_run(**{"train.epochs": 5, "budget.until": "top1=0.1", "run.dollars_per_hour": 3.6})
    summary = train(config, [])
    assert (summary["epoch"], summary["stopped"]) == (0, "target")
    run = load_run(Path(config.run.dir))
    outcome = outcome_of(run, 0.1)
    reached = {"top1": 0.1, "is_reached": True, "epochs": 1, "seconds": outcome.seconds, "dollars": outcome.dollars}
    assert summary["target"] == reached
    assert outcome.seconds is not None
    assert outcome.dollars == pytest.approx(outcome.seconds / 1000)
    assert {event["run_seconds"] for event in run.evals} == {outcome.seconds}
    assert sum(run.epochs[0]["seconds"].values()) < outcome.seconds < summary["wall_seconds"]


def test_the_first_evaluation_that_reaches_the_target_counts() -> None:
    planned = RunPlanning(with_options({"budget.until": "top1=80"}))
    nothing = {"epochs": None, "seconds": None, "dollars": None}
    for epoch, top1 in enumerate(([10.0, 20.0], [79.9, 30.0])):
        planned.evaluated(epoch, 10.0 * epoch, top1)
        assert planned.result() == {"target": {"top1": 80.0, "is_reached": False, **nothing}}
    for epoch, top1 in enumerate(([10.0, 80.0], [90.0, 90.0]), start=2):
        planned.evaluated(epoch, 10.0 * epoch, top1)
        assert planned.result() == {"target": {"top1": 80.0, "is_reached": True, **nothing, "epochs": 3, "seconds": 20.0}}
    assert RunPlanning(with_options({})).result() == {}


def test_the_smallest_budget_leaves_time_for_its_own_measuring() -> None:
    config = with_options({"budget.hours": 0.001, "budget.seconds": 20.0})
    # 0.36 of 11.16 seconds went into measuring; of 12 seconds 1.2 will
    assert budget._least(config, 3.6, 11.16) == pytest.approx(1.03 * 12.0)
    assert budget._least(config, 3600.0, 7220.0) == pytest.approx(1.03 * 7220.0)


def test_an_overrun_is_said_once() -> None:
    limit = Limit(with_options({"budget.hours": 0.05}), Clock(now=lambda: 100.0, started=0.0))  # 180 seconds
    assert not limit.is_spent
    assert limit.overrun(79.0, 0.0) == ""
    assert limit.overrun(90.0, 0.1) == ""  # not clear: 72 may do
    assert limit.overrun(81.0, 0.0).startswith("about 0.050 hours are needed, and the budget is 0.050: the run will end before")
    assert limit.overrun(500.0, 0.0) == ""
    limit.expect(78.4)
    assert not limit.is_spent
    limit.expect(78.6)
    assert limit.is_spent


def test_the_end_leaves_time_for_an_evaluation_before_one_was_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = with_options({"train.epochs": 3, "train.eval_every": 1, "budget.hours": 0.05})  # 180 seconds
    prediction = expected(dict.fromkeys(KINDS, 0.0) | {"compute": 100.0, "evaluation": 60.0}, 0.07, "budget")
    for now, is_spent in ((158.0, False), (159.0, True)):
        monkeypatch.setattr(planning, "fitted", lambda config, *_: (config, prediction))
        one = RunPlanning(config)
        one.settle(World(0, 1, torch.device("cpu")), Clock(0.0, now=partial(float, now)), tmp_path / "run", None)
        one.begin(10, is_first=True)
        assert one.is_spent == is_spent
