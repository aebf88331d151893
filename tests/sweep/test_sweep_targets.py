"""What a sweep tells of times to the target in budget.until, with a stand-in for training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deit_fast.cli import read_call
from deit_fast.config import RunConfig, UserError
from deit_fast.sweep import sweep
from deit_fast.sweep.ledger import Attempts
from deit_fast.sweep.points import Point
from deit_fast.sweep.targets import targets_of
from tests.report.made_up_runs import make_timed_run
from tests.sweep.sweeps import BAD_INPUT

NONE = "no median: half or more missed it"
POINTS = [(0.001, 2), (0.001, 3), (0.001, 4), (0.002, 1), (0.002, 6), (0.002, BAD_INPUT)]


def run(out: Path, points: list[tuple[float, int]], *words: str) -> dict[str, Any]:
    file = out.parent / "s.yaml"
    listed = "\n".join(f"- {{optim.lr: {lr}, train.seed: {seed}}}" for lr, seed in points)
    file.write_text(f"options: {{data: {{train: a, val: b}}, train.device: cpu}}\nlist:\n{listed}\n")
    words = (str(file), f"--sweep.dir={out}", *words)
    call = read_call(["sweep", *words])
    return sweep(call.config, words, call.given)


def test_times_of_recipes_are_told_after_each_point_and_at_the_end(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """20 s, missed and 40 s at the first rate; missed, 60 s and failed at the second."""
    with pytest.raises(UserError, match="1 of 6 points failed"):
        run(out, POINTS, "--budget.until=top1=80")
    told = [line for line in capsys.readouterr().out.splitlines() if "top1=80" in line or line.startswith("lr=")]
    assert told == [
        "  reached top1=80 after 20.0 s, 2 epochs; lr=0.001: 1 of 3 reached it, 0 missed it, median 20.0 s",
        f"  missed top1=80; lr=0.001: 1 of 3 reached it, 1 missed it, {NONE}",
        "  reached top1=80 after 40.0 s, 4 epochs; lr=0.001: 2 of 3 reached it, 1 missed it, median 40.0 s",
        f"  missed top1=80; lr=0.002: 0 of 3 reached it, 1 missed it, {NONE}",
        f"  reached top1=80 after 1 min 00 s, 6 epochs; lr=0.002: 1 of 3 reached it, 1 missed it, {NONE}",
        f"  top1=80 stays open; lr=0.002: 1 of 3 reached it, 1 missed it, {NONE}",
        "time to top1=80, median over studies:",
        "lr=0.001       3        2       1     0        3  40.0 s      20.0 s      40.0 s       4        –",
        "lr=0.002       3        1       1     1        3  missed  1 min 00 s  1 min 00 s  missed   missed",
    ]


def test_of_tuned_points_with_the_same_seed_the_fastest_counts(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    points = [(0.001, 2), (0.002, 2), (0.001, 3), (0.002, 3), (0.001, 6), (0.002, 6)]
    (row,) = run(out, points, "--budget.until=top1=80", "--sweep.tuned=optim.lr")["recipes"]
    numbers = {"num_runs": 6, "num_studies": 3, "num_reached": 4, "num_missed": 2, "num_open": 0, "is_missed": False}
    numbers |= {"num_studies_reached": 2, "num_studies_missed": 1}
    medians = {"seconds": 60.0, "epochs": 6, "dollars": None, "low": 20.0, "high": 60.0}
    assert row == {"recipe": "all runs", "target": 80.0, **numbers, **medians}
    with pytest.raises(UserError, match=r"^sweep\.tuned=optim\.rate: want options"):
        run(out, points, "--sweep.tuned=optim.rate")


def test_points_without_a_target_tell_nothing(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(out, POINTS[:2])["recipes"] == []
    assert "top1=" not in capsys.readouterr().out


def test_where_no_summary_tells_it_the_log_has_the_outcome(tmp_path: Path) -> None:
    """A summary of a version that did not say it; a run whose loss was not finite; one that failed after it was there."""
    points, attempts = [], Attempts()
    for seed, status in enumerate(("finished", "failed", "failed", "failed")):
        config = RunConfig().changed({"run.dir": str(tmp_path / str(seed)), "train.seed": seed, "budget.until": "top1=80"})
        points.append(Point(str(seed), {"train.seed": seed}, config))
        attempts.add({"point": str(seed), "status": status})
    make_timed_run(tmp_path / "0", {1: (5.0, 85.0)}, stopped="target")
    make_timed_run(tmp_path / "1", {1: (5.0, 50.0)}, diverges=True)
    make_timed_run(tmp_path / "2", {1: (5.0, 50.0), 2: (9.0, 80.0)}, is_ended=False)
    (target,) = targets_of(points, ())
    time = target.time(target.recipes[0], attempts)
    assert (time.num_open, time.num_missed, time.num_reached, time.low, time.high) == (1, 1, 2, 5.0, 9.0)
