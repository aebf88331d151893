"""Sweeps with a stand-in for training: what becomes of each point, on which GPUs and cores, and as jobs of SLURM."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import pytest

from deit_fast.__main__ import main
from deit_fast.config import UserError
from deit_fast.record.log import read_events
from deit_fast.sweep import jobs
from deit_fast.sweep.ledger import Ledger
from deit_fast.sweep.points import Point
from tests.sweep.sweeps import (
    BAD_INPUT,
    BUG,
    NO_RESULT,
    NUM_CORES,
    OUT_OF_MEMORY,
    SILENT,
    attempts,
    lines,
    make_file,
    run,
)


def test_every_point_runs_and_is_recorded(tmp_path: Path, out: Path) -> None:
    result = run(make_file(tmp_path, [1, 2, 3]), out)
    names = [f"train.seed={seed}" for seed in (1, 2, 3)]
    assert attempts(out) == [(name, "finished", "") for name in names]
    assert [event["options"] for event in read_events(out / "points.jsonl")] == [{"train.seed": seed} for seed in (1, 2, 3)]
    about = json.loads((out / "sweep.json").read_text())
    assert {name: about[name] for name in ("name", "options", "num_points")} == {
        "name": "s", "options": ["train.seed"], "num_points": 3,
    }  # fmt: skip
    assert about["points"] == {name: {"train.seed": seed} for seed, name in enumerate(names, 1)}
    assert (out / "train.seed=2.log").read_text() == "seed 2\n"
    assert (result["num_finished"], result["failed"], result["not_started"]) == (3, [], [])
    # each of them had all cores for itself, and no GPU
    assert [len(start[2].split(",")) for name in names for start in lines(out / name, "starts")] == 3 * [NUM_CORES]


@pytest.mark.slow
def test_a_failed_point_does_not_stop_the_others(tmp_path: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seeds = [1, BAD_INPUT, BUG, OUT_OF_MEMORY, NO_RESULT, SILENT, 2]
    file = make_file(tmp_path, seeds)
    assert main(["sweep", file, f"--sweep.dir={out}"]) == 2
    failed = [f"train.seed={seed}" for seed in seeds[1:-1]]
    (line,) = capsys.readouterr().err.splitlines()
    assert line == f"deit-fast sweep: 5 of 7 points failed: {', '.join(failed)}; --sweep.retry tries them again"
    assert attempts(out) == [
        ("train.seed=1", "finished", ""),
        (failed[0], "failed", "bad input"),
        (failed[1], "failed", "RuntimeError: boom"),
        (failed[2], "failed", "ended by SIGKILL (out of memory?)"),
        (failed[3], "failed", "was stopped before its end"),
        (failed[4], "failed", "ended with status 3 and no error message"),
        ("train.seed=2", "finished", ""),
    ]

    # again: what failed is left alone, and still said; asked to, it is tried again, and only it
    assert main(["sweep", file, f"--sweep.dir={out}"]) == 2
    assert "5 of 7 points failed: " in capsys.readouterr().err
    assert len(attempts(out)) == 7
    with pytest.raises(UserError, match=r"^5 of 7 points failed: "):
        run(file, out, "--sweep.retry")
    assert [name for name, *_ in attempts(out)[7:]] == failed
    assert len(lines(out / "train.seed=1", "starts")) == 1
    assert attempts(out)[7][2] == "bad input"  # of the second attempt, from a file with both


def test_a_point_that_finds_no_room_does_not_stop_the_others(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_config = Ledger.write_config

    def no_room_for_the_second(ledger: Ledger, point: Point) -> Path:
        if point.name == "train.seed=2":
            raise OSError(errno.ENOSPC, "No space left on device", "s.yaml")
        return write_config(ledger, point)

    monkeypatch.setattr(Ledger, "write_config", no_room_for_the_second)
    with pytest.raises(UserError, match=r"^1 of 3 points failed: train.seed=2; "):
        run(make_file(tmp_path, [200, 2, 3]), out, "--sweep.at_once=2")
    assert sorted(attempts(out)) == [
        ("train.seed=2", "failed", "[Errno 28] No space left on device: 's.yaml'"),
        ("train.seed=200", "finished", ""),
        ("train.seed=3", "finished", ""),
    ]


def test_output_that_cannot_be_written_ends_no_sweep(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w", buffering=1) as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert run(make_file(tmp_path, [1, 2]), out)["num_finished"] == 2
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())  # so that it can be closed


def test_each_run_has_a_gpu_of_its_own(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-5")
    file = make_file(tmp_path, [300, 301, 302, 303])
    Path(file).write_text(Path(file).read_text().replace(", train.device: cpu", ""))
    run(file, out)
    starts = [lines(out / f"train.seed={seed}", "starts")[0] for seed in (300, 301, 302, 303)]
    assert sorted(start[1] for start in starts[:2]) == ["3", "GPU-5"]
    assert {start[1] for start in starts} == {"3", "GPU-5"}
    if NUM_CORES > 1:
        assert not set(starts[0][2].split(",")) & set(starts[1][2].split(","))
    with pytest.raises(UserError, match=r"^sweep.at_once=3: each run has a GPU of its own, and there are 2"):
        run(file, out, "--sweep.at_once=3")


SBATCH = """#!/bin/sh
count=$(cat {folder}/count 2>/dev/null || echo 0)
count=$((count + 1))
echo $count > {folder}/count
run=$(dirname "$1")/..
if [ $count = 2 ]; then echo "deit-fast train: no GPU" > "$run/slurm/2_0_log.out"
else echo '{{"best_top1": 10.0}}' > "$run/summary.json"; fi
echo Submitted batch job $count
"""


SACCT = """#!/bin/sh
printf 'JobID|State|NodeList\\n1|COMPLETED|n1\\n2|FAILED|n1\\n3|COMPLETED|n1\\n'
"""


def test_points_as_jobs_of_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """sbatch, srun and sacct that look like SLURM's; the second job fails."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in (("sbatch", SBATCH.format(folder=tmp_path)), ("sacct", SACCT), ("srun", "#!/bin/sh\n")):
        (commands / name).write_text(text)
        (commands / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setattr(jobs, "_POLL_SECONDS", 0.0)
    monkeypatch.setattr(jobs, "_SECONDS_OF_GRACE", 0.0)
    out = tmp_path / "out"
    words = (make_file(tmp_path, [1, 2, 3]), "--sweep.where=slurm", "--sweep.at_once=1", "--slurm.gpus_per_node=4")
    with pytest.raises(UserError, match=r"^1 of 3 points failed: train.seed=2; --sweep.retry tries them again$"):
        run(*words[:1], out, *words[1:])
    assert attempts(out) == [
        ("train.seed=1", "finished", ""), ("train.seed=2", "failed", "job 2: no GPU"), ("train.seed=3", "finished", ""),
    ]  # fmt: skip
    asked = (out / "train.seed=3" / "slurm" / "3_submission.sh").read_text()
    assert "#SBATCH --gpus-per-node=4\n" in asked
    assert "#SBATCH --job-name=train.seed=3\n" in asked
    assert "\nslurm:" not in (out / "train.seed=3.yaml").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "sweep.file is not set"),
        (["gone.yaml"], "command line: cannot read gone.yaml: No such file or directory"),
        (["s.yaml", "--sweep.dollars=3"], "sweep.dollars=3: run.dollars_per_hour is not set"),
        (["s.yaml", "--run.dollars_per_hour=-3"], "run.dollars_per_hour=-3.0: want above 0, or off"),
        (["s.yaml", "--sweep.hours=0"], "sweep.hours=0.0: want above 0, or unlimited"),
        (["s.yaml", "--sweep.at_once=-1"], "sweep.at_once=-1: want >= 1, or auto"),
        (["s.yaml", "--sweep.where=slurm"], "slurm.nodes=1: no sbatch and srun on this machine"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, words: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/nonexistent")
    make_file(tmp_path, [1])
    assert main(["sweep", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"deit-fast sweep: {message}")


def test_torchruns_ranks_do_not_each_sweep(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="without torchrun"):
        run(make_file(tmp_path, [1]), out)
