"""Stages of a run are measured on the data that the run would load, and refused where the run would refuse them."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from deit_fast.__main__ import main
from deit_fast.benchmarks import schedule_rates
from deit_fast.benchmarks.rivals.common import System
from deit_fast.benchmarks.rivals.ours import ours_training
from deit_fast.benchmarks.schedule_rates import schedule_table
from deit_fast.config import AugmentConfig, DataConfig
from tests.data.image_folders import convert, make_images

QUICK = ["--bench.rounds=2", "--bench.seconds=0.05", "--bench.threads=1", "--data.batch_size=4", "--data.resolution=32"]
WORK = "--bench.work=schedule"


@pytest.fixture(scope="module")
def betons(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with set.beton and small.beton, of the same twelve images."""
    folder = tmp_path_factory.mktemp("betons")
    make_images(folder / "images")
    convert(folder / "images", folder / "set.beton")
    convert(folder / "images", folder / "small.beton", max_resolution=24)
    return folder


def test_stages_of_a_run_are_measured_from_their_betons(
    betons: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = f"--schedule.stages=[{{data.train: {betons}/small.beton, data.resolution: 16}}, {{augment.auto_augment: off}}]"
    out = tmp_path / "bench.json"
    assert main(["bench", "loader", f"--data.train={betons}/set.beton", WORK, f"--out={out}", *QUICK, stages]) == 0
    first, last = json.loads(out.read_text())["schedule"]
    assert (first["stage"], first["resolution"], Path(first["betons"]).name) == (1, 16, "small.beton")
    assert (last["stage"], last["resolution"], last["auto_augment"]) == (2, 32, "")
    assert (len(first["rounds"]), last["times_last"]["median"]) == (2, 1.0)
    ratios = [one / other for one, other in zip(first["rounds"], last["rounds"], strict=True)]
    assert first["times_last"]["median"] == pytest.approx(statistics.median(ratios))
    assert "times the last" in capsys.readouterr().out


def test_views_are_loaded_as_in_training_from_betons_that_are_here(
    betons: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With data.shrink=frequency the loader makes all views at the run's side."""
    used: list[DataConfig] = []

    def watched(data: DataConfig, augment: AugmentConfig, seed: int) -> System:
        used.append(data)
        return ours_training(data, augment, seed)

    monkeypatch.setattr(schedule_rates, "ours_training", watched)
    cache, out = tmp_path / "cache", tmp_path / "bench.json"
    stages = f"--schedule.stages=[{{data.train: 'file://{betons}/small.beton', data.resolution: 16}}, {{}}]"
    given = [f"--data.train={betons}/set.beton", "--data.shrink=frequency", "--data.order=pages", f"--data.cache_dir={cache}"]
    assert main(["bench", "loader", *given, WORK, f"--out={out}", *QUICK, stages]) == 0
    assert {data.resolution for data in used} == {32}
    small = {data.train for data in used if data.train != f"{betons}/set.beton"}
    assert [Path(path).is_relative_to(cache) for path in small] == [True]
    rows = json.loads(out.read_text())["schedule"]
    assert [(row["resolution"], row["loaded_resolution"]) for row in rows] == [(16, 32), (32, 32)]


def test_a_range_stands_behind_what_it_is_of() -> None:
    shown: dict[str, Any] = {"auto_augment": "", "betons": "a.beton", "views_per_second": 9023.0, "rounds": [8698.0, 9184.0]}
    sides = {"stage": 1, "resolution": 96, "loaded_resolution": 224, "times_last": {"median": 3.94}}
    line = schedule_table([{**shown, **sides}]).splitlines()[1]
    assert line == "  1  96 pixels from 224, no policy, a.beton  9,023 views/s  (8,698 to 9,184, 2 rounds)  3.94 times the last"


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ("[{epochs: 1, share: 1}]", "schedule.stages: stage 1: has both `epochs` and `share`"),
        ("[{}, {data.resolution: 64}]", "schedule.stages: stage 2: data.resolution=64: want at most 32"),
        (
            "[{}, {data.train: a.beton}]",
            "source.path=images: stage 2 of schedule.stages has betons of its own (data.train=a.beton)",
        ),
    ],
)
def test_stages_that_no_run_can_have_are_refused_in_one_line(
    stages: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "loader", "--source.path=images", WORK, *QUICK, f"--schedule.stages={stages}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"deit-fast bench: {message}")
