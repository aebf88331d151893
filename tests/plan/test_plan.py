"""Plans: what is printed, drawn and kept, what several GPUs are taken to do, prices, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from deit_fast.__main__ import main
from deit_fast.config import RunConfig, UserError
from deit_fast.data.load.batch import Batch
from deit_fast.plan import ledger
from deit_fast.plan.advice import advice
from deit_fast.plan.plan import plan, predict
from deit_fast.plan.prediction import Prediction
from deit_fast.plan.prices import Price, read_prices
from deit_fast.plan.run_counts import RunCounts
from deit_fast.plan.scale import BUS_BYTES_PER_SECOND, scaled
from deit_fast.plan.table import clock_time, table
from deit_fast.record.clock import KINDS
from deit_fast.train.schedule import Stage
from deit_fast.train.trainer import Trainer
from tests.data.image_folders import convert
from tests.plan.made_up import probes
from tests.tiny_runs import TINY, with_options

MakeRun = Callable[..., RunConfig]


@pytest.mark.slow
def test_a_plan_is_printed_drawn_and_found_by_its_run(
    tiny_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text("eight GPUs: {on_demand: 20, spot: 8.5, gpus: 8}\n")
    options = {"plan.seconds": 1.0, "plan.prices": str(prices), "plan.figure": str(tmp_path / "a.png")}
    config = tiny_run(**options, **{"run.dollars_per_hour": 2.16})
    result = plan(config)
    said = capsys.readouterr().out
    assert result["hours"] == pytest.approx(sum(result["prediction"]["seconds"].values()) / 3600)
    assert result["prediction"]["low"] < result["prediction"]["wall_seconds"] < result["prediction"]["high"]
    assert set(result["prediction"]["seconds"]) == set(KINDS)
    assert result["prediction"]["seconds"]["compute"] > 0
    assert result["shape"]["steps_per_epoch"] == 22
    assert min(result["images_per_second"].values()) > 0
    names = ["run.dollars_per_hour", "eight GPUs, on demand", "eight GPUs, spot"]
    assert [cost["name"] for cost in result["costs"]] == names
    assert result["costs"][1]["dollars"] == pytest.approx(20 * result["hours"])
    assert all(name in said for name in names)
    assert "limit" in said
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert json.dumps(result)
    assert "0.8 cores were busy with something else" in table({**result, "other_cores": 0.8})
    assert "something else" not in table({**result, "other_cores": 0.1})
    entries = ledger.read(Path(config.run.dir).parent)
    assert not Path(config.run.dir).exists()
    (entry,) = entries
    assert ledger.planned(entries, ledger.key_of(config, 1), result["machine"]) is not None
    assert entry["epochs"] == 2


@pytest.mark.slow
def test_each_stage_has_its_price(tiny_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    stages: tuple[dict[str, Any], ...] = ({"data.resolution": 16}, {"data.resolution": 16, "augment.erase": 0.0}, {})
    options = {"schedule.stages": stages, "model.options": {**TINY, "dynamic_img_size": True}, "train.epochs": 18}
    result = plan(tiny_run(**options, **{"plan.seconds": 1.0, "data.subset": 640}))
    assert [(stage["epochs"], stage["resolution"]) for stage in result["stages"]] == [(8, 16), (8, 16), (2, 32)]
    seconds = result["prediction"]["seconds"]
    assert sum(stage["seconds"] for stage in result["stages"]) == pytest.approx(seconds["compute"] + seconds["data_wait"])
    assert result["stages"][0]["seconds"] == result["stages"][1]["seconds"]
    assert set(result["probes"]["steps"]) == {16, 32}
    assert "8 epochs at 16 pixels" in capsys.readouterr().out


@pytest.mark.slow
def test_stages_are_measured_from_their_betons(
    tiny_run: MakeRun, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At one resolution those from each beton, and their prices add up to that of all."""
    small = tmp_path / "small.beton"
    convert(digits / "train", small, max_resolution=16)
    stages: tuple[dict[str, Any], ...] = ({"data.train": str(small), "epochs": 3}, {"epochs": 1})
    opened = []
    batches_in = Trainer.batches_in

    def noted(trainer: Trainer, stage: Stage, *place: Any) -> Generator[Batch, None, None]:
        opened.append(stage.betons)
        return batches_in(trainer, stage, *place)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "batches_in", noted)
        result = plan(tiny_run(**{"schedule.stages": stages, "train.epochs": 4, "plan.seconds": 1.0, "data.subset": 640}))
    assert set(opened) == {str(small), str(digits / "train.beton")}
    steps = result["probes"]["steps"][32]
    assert 3 / 4 * steps["by_betons"][str(small)] + 1 / 4 * steps["by_betons"][str(digits / "train.beton")] == pytest.approx(1)
    seconds = result["prediction"]["seconds"]
    assert sum(stage["seconds"] for stage in result["stages"]) == pytest.approx(seconds["compute"] + seconds["data_wait"])
    assert f"3 epochs at 32 pixels, {small}\n" in capsys.readouterr().out


@pytest.mark.slow
def test_several_gpus_are_a_model_and_kept_nowhere(tiny_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny_run(**{"plan.seconds": 1.0, "plan.gpus": 4, "data.subset": 640})
    result = plan(config)
    assert result["is_extrapolated"]
    assert result["shape"]["steps_per_epoch"] == 640 // (4 * 64)
    assert "4 GPUs were not measured" in capsys.readouterr().out
    assert ledger.read(Path(config.run.dir).parent) == []


@pytest.mark.slow
def test_steps_with_all_patches_are_measured_apart(tiny_run: MakeRun) -> None:
    patches = {"model.patch_dropout": 0.5, "model.patch_dropout_tail": 0.5, "data.subset": 640}
    result = plan(tiny_run(**{"plan.seconds": 1.0, "plan.gpus": 2, **patches}))
    assert (list(result["shape"]["epochs_at"].values()), list(result["shape"]["tail_at"].values())) == ([1], [1])
    assert result["probes"]["tail"].keys() == result["probes"]["steps"].keys()
    assert result["epochs_per_day"] == pytest.approx(2 * 24 / result["hours"])


@pytest.mark.slow
def test_a_prediction_alone_writes_nothing(tiny_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny_run()
    prediction = predict(config, seconds=1.0)
    assert prediction.source == "plan"
    assert prediction.wall_seconds > 0
    assert capsys.readouterr().out == ""
    assert list(Path(config.run.dir).parent.iterdir()) == []


def test_ranks_exchange_gradients_and_share_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(16)))
    config = with_options({"data.batch_size": 10})
    gradient_bytes = int(2.0 * BUS_BYTES_PER_SECOND)
    found = scaled(config, probes(), 8, num_threads=16, gradient_bytes=gradient_bytes)
    exchange = 2 * 7 / 8 * 2.0
    assert found.steps[32].compute.mean == pytest.approx(1.0 + exchange - 2 / 3)
    assert found.steps[32].wait.mean == 0.0  # 2 threads of 16 take 1.6 seconds, and the step takes longer
    assert found.evaluation.mean == pytest.approx(1.0)
    quick = scaled(config, probes(), 8, num_threads=16, gradient_bytes=0)
    assert quick.steps[32].wait.mean == pytest.approx(0.6)
    assert quick.steps[32].compute.mean == pytest.approx(1.0)


def _advice(seconds: dict[str, float], loader: float = 0.2, **options: Any) -> dict[str, Any]:
    prediction = Prediction({**dict.fromkeys(KINDS, 0.0), **seconds}, 1.0, 2.0)
    config = with_options({"train.device": "cpu", "data.resolution": 224, **options})
    shape = RunCounts(10, {224: 20}, 20, 20)
    measured = probes(wait=seconds.get("data_wait", 0.0) / 100, loader=loader)
    return advice(config, shape, measured, prediction, num_threads=1)


def test_what_limits_a_run_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(4)))
    by_data = _advice({"data_wait": 50.0, "compute": 50.0}, loader=1.9, **{"augment.repeats": 1, "data.batch_size": 38})
    assert by_data["limits"] == "data_wait"
    assert by_data["line"] == "the data path: 100 % of the run; 20 views/s come, and the model could take 38"
    assert by_data["steps"][0]["what"].startswith("more workers: data.num_workers=4")
    assert any("augment.repeats=3" in step["what"] for step in by_data["steps"])
    by_evaluation = _advice({"evaluation": 90.0, "compute": 10.0})
    assert "train.eval_every=4" in by_evaluation["steps"][0]["what"]
    saved = [step["saves_at_most"] for step in by_evaluation["steps"]]
    assert saved == sorted(saved, reverse=True)
    assert not any("worker" in step["what"] for step in by_evaluation["steps"])


def test_prices_are_read(tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text("a: {on_demand: 2.16, gpus: 8}\nb: {spot: 1}\n")
    assert read_prices(str(file), 0.0) == [Price("a, on demand", 2.16, 8), Price("b, spot", 1.0)]
    assert read_prices("", 3.0) == [Price("run.dollars_per_hour", 3.0)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: {on_demand: -2}", "a: on_demand=-2: want dollars an hour, above 0"),
        ("a: {on_demand: 0}", "a: on_demand=0: want dollars"),
        ("a: {spot: much}", "a: spot=much: want dollars"),
        ("a: {spot: .nan}", "a: spot=nan: want dollars"),
        ("a: {gpus: 8}", "a: has no price; want on_demand or spot, in dollars an hour"),
        ("a: {spot: 1, gpus: many}", "a: gpus=many: want a number of GPUs"),
        ("a: {sport: 1}", "a: sport is unknown; want on_demand, spot and gpus"),
        ("a: 3", "a: has no price; want on_demand or spot"),
        ("", "want `machine: {on_demand: DOLLARS, spot: DOLLARS, gpus: NUMBER}` for each machine"),
        ("a: [", "not YAML"),
    ],
)
def test_a_price_that_is_wrong_or_missing_is_one_line(content: str, message: str, tmp_path: Path) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(content)
    with pytest.raises(UserError) as error:
        read_prices(str(file), 0.0)
    assert message in str(error.value)
    assert str(error.value).startswith(f"plan.prices={file}: ")
    assert "\n" not in str(error.value)


def test_what_stops_a_run_stops_its_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, message in (
        ([], "data.train is not set"),
        (["--run.dollars_per_hour=-1"], "run.dollars_per_hour=-1.0: want above 0, or off"),
        ([f"--plan.prices={tmp_path}/none.yaml"], "cannot be read (No such file or directory)"),
        (["--plan.figure=/nowhere/a.png"], "want the name of a file in an existing folder"),
    ):
        assert main(["plan", f"--run.dir={tmp_path}/run", *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
    (tmp_path / ledger.LEDGER).write_text('{"event": "plan"}\n')
    assert main(["plan", f"--run.dir={tmp_path}/run"]) == 2
    assert "ledger.jsonl, line 1: broken" in capsys.readouterr().err
    assert (tmp_path / ledger.LEDGER).read_text() == '{"event": "plan"}\n'


def test_times_are_those_of_a_clock() -> None:
    assert clock_time(59.6) == "0:01:00"
    assert clock_time(53 * 3600) == "2 days, 5:00:00"
