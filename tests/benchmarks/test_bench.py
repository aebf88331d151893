"""The four figures of a run: what each trains on, what the ratio is of, what comes before is kept apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from deit_fast.__main__ import main
from deit_fast.benchmarks.bench import KINDS, before_and_rates, bench, measured_as, rates_result
from deit_fast.config import RunConfig
from deit_fast.data.load.loader import Batch
from deit_fast.train.dist import World
from deit_fast.train.step import TrainStep
from deit_fast.train.trainer import Trainer
from tests.tiny_runs import TINY
from tests.train.learners import CPU

MakeRun = Callable[..., RunConfig]


class Watched:
    """A trainer's step that notes which images it is given."""

    def __init__(self, step: TrainStep) -> None:
        self._step = step
        self.images: list[torch.Tensor] = []

    def __call__(self, batch: Batch, *others: Any) -> None:
        self.images.append(batch.images.clone())
        self._step(batch, *others)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._step, name)


@pytest.mark.slow
def test_the_command_gives_four_figures_and_what_came_before(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench.json"
    options = ",".join(f"{name}={value}" for name, value in TINY.items())
    words = [
        f"--data.train={digits / 'train.beton'}", f"--data.val={digits / 'val.beton'}", "--data.resolution=32",
        "--model.name=deit_tiny_patch16_224", f"--model.options={options}", "--data.batch_size=16", "--data.num_workers=1",
        "--train.device=cpu", "--bench.steps=2", "--bench.rounds=3", f"--out={out}",
    ]  # fmt: skip
    assert main(["bench", *words]) == 0
    result = json.loads(out.read_text())
    assert set(result["images_per_second"]) == set(result["rounds"]) == {"data", "compute", "cached", "both"}
    assert all(len(values) == 3 and min(values) > 0 for values in result["rounds"].values())
    assert set(result["before_seconds"]) == {"set_up", "first_batch", "first_steps"}
    assert all(seconds > 0 for seconds in result["before_seconds"].values())
    assert result["compile_seconds"] is None
    wanted = {"kind": "train", "precision": "float32", "memory_format": "channels_last", "batch_size": 16, "device": "cpu"}
    assert {name: result[name] for name in wanted} == wanted
    assert result["threads"] >= 1
    assert {"hardware", "versions", "config"} <= set(result)
    printed = capsys.readouterr().out
    assert all(name in printed for name in KINDS.values())
    assert "end to end / " in printed
    assert "first batch" in printed


def test_the_ratio_is_to_the_smaller_of_loader_and_model_in_each_round() -> None:
    rounds = {"data": [10.0, 4.0, 8.0], "compute": [5.0, 8.0, 8.0], "cached": [1.0] * 3, "both": [4.0, 3.0, 8.0]}
    result = rates_result(rounds)
    assert result["ratio"] == {"median": 0.8, "min": 0.75, "max": 1.0}
    assert result["images_per_second"] == {"data": 8.0, "compute": 8.0, "cached": 1.0, "both": 4.0}


@pytest.mark.slow
def test_each_figure_trains_on_what_it_says(tiny_run: MakeRun) -> None:
    steps, batch_size = 6, 8
    changes = {"bench.steps": steps, "data.batch_size": batch_size, "data.start_resolution": 16, "train.ema_decay": None}
    trainer = Trainer(measured_as(tiny_run(**changes)), World(0, 1, CPU))
    watched = Watched(trainer.step)
    trainer.step = watched  # type: ignore[assignment]
    try:
        rates = before_and_rates(trainer, steps, rounds=1)[1]
    finally:
        trainer.close()
    assert {tuple(images.shape) for images in watched.images} == {(batch_size, 3, 32, 32)}  # of the last resolution alone
    first = len(watched.images) - 2 * 3 * steps
    of_rounds = [watched.images[start : start + steps] for start in range(first, len(watched.images), steps)]
    # loader, model, cached, both; then the same backwards
    synthetic, cached, both, both_again, cached_again, synthetic_again = of_rounds
    assert all(torch.equal(images, synthetic[0]) for images in synthetic + synthetic_again)
    assert [torch.equal(images, cached[number % 4]) for number, images in enumerate(cached)] == [True] * steps
    assert num_distinct(cached) == num_distinct(cached + cached_again) == 4
    assert num_distinct(both + both_again + cached + synthetic) == 2 * steps + 4 + 1
    assert all(len(values) == 1 for values in rates.values())


def num_distinct(batches: list[torch.Tensor]) -> int:
    return len({images.numpy().tobytes() for images in batches})


@pytest.mark.slow
def test_compilation_is_counted_apart(tiny_run: MakeRun) -> None:
    changes = {"bench.steps": 2, "bench.rounds": 1, "data.batch_size": 8, "train.compile": "default"}
    changes["model.options"] = {**TINY, "depth": 1}
    result = bench(tiny_run(**changes))
    assert 0 < result["compile_seconds"] < result["before_seconds"]["first_steps"]
