"""Sweeps with a stand-in for training: what becomes of each point, budgets, dry runs, and folders that are another's."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from deit_fast.__main__ import main
from deit_fast.cli import read_call
from deit_fast.config import RunConfig, UserError
from deit_fast.plan import ledger
from deit_fast.plan.prediction import Prediction
from deit_fast.record.log import read_events
from deit_fast.record.run import hardware
from deit_fast.sweep import jobs, sweep
from deit_fast.sweep.ledger import Ledger
from deit_fast.sweep.points import Point
from tests.sweep.sweeps import BAD_INPUT, BUG, NO_RESULT, NUM_CORES, OUT_OF_MEMORY, SILENT, lines, make_file, make_trainer


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a sweep, whose points the stand-in trains."""
    monkeypatch.setattr(sys, "executable", make_trainer(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / "out"


def run(file: str, out: Path, *words: str, predict: Any = None) -> dict[str, Any]:
    words = (file, f"--sweep.dir={out}", *words)
    call = read_call(["sweep", *words])
    return sweep(call.config, words, call.given, predict)


def attempts(out: Path) -> list[tuple[str, str, str]]:
    events = read_events(out / "points.jsonl")
    assert {event["event"] for event in events} == {"point"}
    return [(event["point"], event["status"], event.get("error", "")) for event in events]


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
        (failed[4], "failed", "ended with status 3, and left no word why"),
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


def test_points_are_added_and_nothing_else(tmp_path: Path, out: Path) -> None:
    run(make_file(tmp_path, [1, 2]), out)
    content = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}

    def refusal(file: str, *words: str) -> str:
        with pytest.raises(UserError) as caught:
            run(file, out, *words)
        assert content == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        return str(caught.value)

    assert "point train.seed=2 is gone from it" in refusal(make_file(tmp_path, [1, 3]))
    file = make_file(tmp_path, [1, 2, 3])
    assert "train.epochs was its default, and is 7" in refusal(file, "--train.epochs=7")
    assert 'data.train was "a", and is "c"' in refusal(file, "--data.train=c")
    # where and at what price it runs may change
    run(make_file(tmp_path, [3, 2, 1], "list: [{}, {train.epochs: 9}]"), out, "--run.dollars_per_hour=3")
    names = [name for name, *_ in attempts(out)]
    assert names[:3] == ["train.seed=1", "train.seed=2", "train.seed=3"]
    assert len(names) == 5 and len(set(names)) == 5


def test_a_sweep_of_a_version_without_words_goes_on(tmp_path: Path, out: Path) -> None:
    file, off = make_file(tmp_path, [1]), "--optim.lr_batch_size=off"
    run(file, out, off)
    described = json.loads((out / "sweep.json").read_text())
    assert described["shared"]["optim.lr_batch_size"] == "off"
    described["shared"]["optim.lr_batch_size"] = 0
    (out / "sweep.json").write_text(json.dumps(described))
    run(file, out, off)
    with pytest.raises(UserError, match=r'optim\.lr_batch_size was "off", and is its default; points may only be added'):
        run(file, out)


def test_another_recipe_of_the_same_name_is_refused(tmp_path: Path, out: Path) -> None:
    plain = "  plain: {train.epochs: 6}\n  long: {train.epochs: %d}"
    run(make_file(tmp_path, [1], f"recipes:\n{plain % 8}"), out)
    with pytest.raises(UserError, match=r"train\.epochs was 8, and is 9; points may only be added"):
        run(make_file(tmp_path, [1], f"recipes:\n{plain % 9}"), out)
    run(make_file(tmp_path, [1], f"recipes:\n{plain % 8}\n  other: {{}}"), out)
    assert len(attempts(out)) == 3


def test_an_option_that_only_some_points_set_is_no_change(tmp_path: Path, out: Path) -> None:
    file = make_file(tmp_path, [1], "list: [{train.epochs: 9, train.seed: 2}]")
    run(file, out, "--train.log_every=7")
    run(file, out, "--train.log_every=7")
    assert len(attempts(out)) == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", "{}", "holds a run"),
        ("", "", "is not a folder"),
        ("sweep.json", "[", "sweep.json: broken"),
        ("points.jsonl", '{"event": "point"}\nbroken\n{"event": "point"}\n', "points.jsonl: line 2 is broken"),
    ],
)
def test_folders_that_are_no_sweeps(tmp_path: Path, out: Path, name: str, content: str, message: str) -> None:
    path = out / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        run(make_file(tmp_path, [1]), out)
    assert not (out / "train.seed=1").exists()


def test_a_result_that_was_not_recorded_is_not_made_again(tmp_path: Path, out: Path) -> None:
    """The sweep was killed between a point's end and its line."""
    file = make_file(tmp_path, [1, 2])
    run(file, out)
    log = out / "points.jsonl"
    log.write_text(log.read_text().splitlines()[0] + "\n")
    run(file, out)
    assert [name for name, *_ in attempts(out)] == ["train.seed=1", "train.seed=2"]
    assert [len(lines(out / f"train.seed={seed}", "starts")) for seed in (1, 2)] == [1, 1]


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
