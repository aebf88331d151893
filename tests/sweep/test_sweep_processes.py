"""Sweeps as processes: killed, interrupted, two in one folder; and with real training, here and as jobs."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from deit_fast.record.log import read_events
from tests.scale import scaled
from tests.sweep.sweeps import BAD_INPUT, DEAF, ENDLESS, SweepProcess, alive, lines, make_file, make_trainer, wait_for
from tests.tiny_runs import digits_in

SLOW = pytest.mark.slow


@pytest.fixture
def start(tmp_path: Path) -> Callable[..., SweepProcess]:
    """start(file, *words): a sweep in tmp_path/out, in which the stand-in trains."""
    trainer = make_trainer(tmp_path)

    def started(file: str, *words: str, python: str = "") -> SweepProcess:
        words = (file, f"--sweep.dir={tmp_path / 'out'}", *words)
        return SweepProcess(words, tmp_path / "output.txt", trainer, python)

    return started


def wait_for_results(out: Path, count: int, sweep: SweepProcess) -> None:
    wait_for(lambda: len(list(out.glob("*/summary.json"))) >= count or sweep.process.poll() is not None, seconds=400)


def wait_until_gone(process_ids: list[int]) -> None:
    wait_for(lambda: not alive(process_ids), seconds=10)


@pytest.mark.slow
def test_killed_at_random_moments_each_point_comes_to_its_end_once(tmp_path: Path, start: Callable[..., SweepProcess]) -> None:
    """Two at once, one of twelve failing: however often the sweep dies, no point runs beside itself, and none ends twice."""
    seeds = [*range(100, 111), BAD_INPUT]
    file, out = make_file(tmp_path, seeds), tmp_path / "out"
    generator = random.Random(3)
    kills_in_mid_run = 0
    for _ in range(4):
        sweep = start(file, "--sweep.at_once=2")
        before = len(list(out.glob("*/summary.json")))
        target = before + generator.choice([0, 1, 2])
        wait_for_results(out, target, sweep)
        time.sleep(generator.uniform(0, 0.15))
        running = [child.pid for child in sweep.children()]
        sweep.end(signal.SIGKILL)
        assert sweep.wait() == -signal.SIGKILL
        kills_in_mid_run += bool(running)
        wait_until_gone(running)
    assert kills_in_mid_run
    last = start(file, "--sweep.at_once=2")
    assert last.wait() == 2
    assert "1 of 12 points failed" in last.output
    assert all((out / f"train.seed={seed}" / "summary.json").exists() for seed in seeds[:-1])
    assert not list(out.glob("*/overlaps")) + list(out.glob("*/again"))
    events = read_events(out / "points.jsonl")
    assert sorted(event["point"] for event in events if event["status"] == "finished") == sorted(
        f"train.seed={s}" for s in seeds[:-1]
    )
    assert {event["point"] for event in events if event["status"] == "failed"} == {f"train.seed={BAD_INPUT}"}


def test_where_runs_outlive_their_sweep_the_next_one_waits_for_them(tmp_path: Path, start: Callable[..., SweepProcess]) -> None:
    """As on a system that does not kill them: the lock is theirs too."""
    file, out = make_file(tmp_path, [ENDLESS, 1]), tmp_path / "out"
    folder = out / f"train.seed={ENDLESS}"
    sweep = start(file, python="from deit_fast.sweep import here; here._PR_SET_PDEATHSIG = 0")
    wait_for(lambda: lines(folder, "starts"))
    sweep.end(signal.SIGKILL)
    sweep.wait()
    ((pid, *_),) = lines(folder, "starts")
    assert alive([int(pid)])
    second = start(file)
    wait_for(lambda: "waits for the end of runs that a killed sweep left behind" in second.output)
    (folder / "go").touch()
    assert second.wait() == 0
    assert lines(folder, "ends") == [[pid]]  # of the orphan, and nobody ran it again
    assert len(lines(out / "train.seed=1", "ends")) == 1


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 0), (signal.SIGHUP, 0)])
def test_a_signal_ends_it_in_checkpoints(
    tmp_path: Path, start: Callable[..., SweepProcess], number: signal.Signals, status: int
) -> None:
    file, out = make_file(tmp_path, [1, ENDLESS, 2]), tmp_path / "out"
    sweep = start(file)
    wait_for(lambda: lines(out / f"train.seed={ENDLESS}", "starts"))
    children = [child.pid for child in sweep.children()]
    assert len(children) == 1
    sweep.end(number)
    assert sweep.wait() == status
    assert not alive(children)
    assert len(lines(out / f"train.seed={ENDLESS}", "checkpoints")) == 1
    assert [event["point"] for event in read_events(out / "points.jsonl")] == ["train.seed=1"]  # stopped is not failed
    (line,) = [line for line in sweep.output.splitlines() if line.startswith("stopped by")]
    assert line == (
        f"stopped by {number.name} with 1 of 3 points finished; go on with: deit-fast sweep {file} --sweep.dir={out}"
    )
    assert not (out / "train.seed=2").exists()


@pytest.mark.slow
def test_a_second_signal_ends_runs_that_do_not_listen(tmp_path: Path, start: Callable[..., SweepProcess]) -> None:
    file, out = make_file(tmp_path, [DEAF]), tmp_path / "out"
    sweep = start(file)
    wait_for(lambda: lines(out / f"train.seed={DEAF}", "starts"))
    children = [child.pid for child in sweep.children()]
    sweep.end(signal.SIGTERM)
    sweep.end(signal.SIGHUP)  # at once: still the first
    wait_for(lambda: "waits for checkpoints" in sweep.output)
    time.sleep(0.3)
    assert alive(children) == children
    time.sleep(1)
    sweep.end(signal.SIGINT)
    assert sweep.wait() == 0
    assert not alive(children)


def test_two_sweeps_in_one_folder(tmp_path: Path, start: Callable[..., SweepProcess]) -> None:
    file, out = make_file(tmp_path, [ENDLESS]), tmp_path / "out"
    first = start(file)
    wait_for(lambda: lines(out / f"train.seed={ENDLESS}", "starts"))
    second = start(file)
    assert second.wait() == 2
    assert f"another sweep (process {first.process.pid} on " in second.output
    first.end(signal.SIGTERM)
    assert first.wait() == 0
    assert len(lines(out / f"train.seed={ENDLESS}", "starts")) == 1


# With real training

SWEEP = """options:
  data: {{train: {folder}/train.beton, val: {folder}/val.beton, batch_size: 64, num_workers: 1}}
  augment.flip: 0
  schedule: {{warmup_epochs: 0}}
  train: {{ema_decay: 0.9, device: cpu}}
  model.name: deit_tiny_patch16_224
"""
SMALL, SMALLER = ({"patch_size": 8, "embed_dim": width, "depth": 2, "num_heads": 2} for width in (24, 16))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with train.beton and val.beton."""
    return digits_in(tmp_path_factory.getbasetemp())


@SLOW
@pytest.mark.timeout(900)
def test_runs_of_killed_sweeps_come_each_to_their_end_once(digits: Path, tmp_path: Path) -> None:
    """2 models x 2 resolutions x 3 numbers of epochs, or fewer, where the folder of one cannot be made.

    The sweep is killed once, and in the full study twice.
    """
    file, out = tmp_path / "s.yaml", tmp_path / "out"
    models, resolutions = [SMALL, SMALLER][: scaled(2)], [16, 32][: scaled(2)]
    axes = {"model.options": models, "data.resolution": resolutions, "train.epochs": [1, 2, 3]}
    file.write_text(f"{SWEEP.format(folder=digits)}grid: {json.dumps(axes)}\n")
    words = [str(file), f"--sweep.dir={out}"]
    names = [line.split()[0] for line in _dry_run(words, tmp_path)]
    assert len(names) == 3 * len(models) * len(resolutions)
    bad = next(name for name in names if "train.epochs=2" in name)
    out.mkdir()
    (out / bad).write_text("in the way")

    generator = random.Random(os.getpid())
    num_killed = 0
    for num_done in sorted(generator.sample(range(1, len(names) - 1), scaled(2))):
        sweep = SweepProcess(words, tmp_path / "output.txt")
        wait_for_results(out, num_done, sweep)
        time.sleep(generator.uniform(0, 3))
        children = [child.pid for child in sweep.children()]
        sweep.end(signal.SIGKILL)
        assert sweep.wait() == -signal.SIGKILL, sweep.output
        num_killed += len(children)
        wait_until_gone(children)
    assert num_killed  # runs, with their sweep
    last = SweepProcess(words, tmp_path / "output.txt")
    assert last.wait(600) == 2
    assert f": 1 of {len(names)} points failed: {bad}; " in last.output.splitlines()[-1]
    for name in set(names) - {bad}:
        events = read_events(out / name / "log.jsonl")
        assert [event["event"] for event in events].count("end") == 1, name
        assert len(json.loads((out / name / "run.json").read_text())["sessions"]) <= 3
    ends = [(event["point"], event["status"]) for event in read_events(out / "points.jsonl")]
    assert sorted(ends) == sorted((name, "failed" if name == bad else "finished") for name in names)


def _dry_run(words: list[str], folder: Path) -> list[str]:
    """The lines of a dry run's points; nothing is predicted."""
    fake = "import types; from deit_fast.plan.prediction import Prediction as P; "
    fake += "sys.modules['deit_fast.plan.plan'] = types.SimpleNamespace(predict=lambda config: P({}, 0.0, 0.0))"
    sweep = SweepProcess([*words, "--dry-run"], folder / "dry.txt", python=fake)
    assert sweep.wait() == 0, sweep.output
    return sweep.output.splitlines()[1:-1]


@SLOW
def test_ctrl_c_leaves_checkpoints_from_which_it_goes_on(digits: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "s.yaml", tmp_path / "out"
    file.write_text(SWEEP.format(folder=digits) + "grid: {train.epochs: [8]}\n")
    words = [str(file), f"--sweep.dir={out}", "--model.options=patch_size=8,embed_dim=24,depth=2,num_heads=2"]
    words += ["--data.resolution=32"]
    first = SweepProcess(words, tmp_path / "output.txt")
    folder = out / "train.epochs=8"
    wait_for(
        lambda: (folder / "log.jsonl").exists() and any(e["event"] == "epoch" for e in read_events(folder / "log.jsonl")), 120
    )
    first.end(signal.SIGINT)
    assert first.wait() == 130, first.output
    stopped = [event for event in read_events(folder / "log.jsonl") if event["event"] == "stopped"]
    assert len(stopped) == 1
    second = SweepProcess(words, tmp_path / "output.txt")
    assert second.wait() == 0, second.output
    starts = [event for event in read_events(folder / "log.jsonl") if event["event"] == "start"]
    assert [(e["epoch"], e["step"]) for e in starts] == [(0, 0), (stopped[0]["epoch"], stopped[0]["step"])]


@pytest.mark.long
@SLOW
@pytest.mark.timeout(600)
def test_points_as_jobs(digits: Path, tmp_path: Path) -> None:
    """The sweep is killed and its job goes on; the next sweep waits for it and submits what is missing."""
    file, out = tmp_path / "s.yaml", tmp_path / "out"
    listed = "list: [{train.epochs: 4}, {train.epochs: 1, data.val: /gone.beton}, {train.epochs: 2}]\n"
    file.write_text(SWEEP.format(folder=digits) + listed)
    model = tmp_path / "model.yaml"
    model.write_text(f"model: {{options: {json.dumps(SMALL)}}}\ndata: {{resolution: 32}}\n")
    words = [str(file), f"--sweep.dir={out}", f"--config-file={model}", "--sweep.where=slurm", "--sweep.at_once=1"]
    words += ["--slurm.cluster=local", "--slurm.gpus_per_node=0", "--slurm.signal_seconds=60", "--slurm.max_restarts=0"]
    folder = out / "train.epochs=4"
    first = SweepProcess(words, tmp_path / "output.txt")
    wait_for(lambda: (folder / "log.jsonl").exists(), 120)
    controllers = [child.pid for child in psutil.Process(first.process.pid).children()]
    first.end(signal.SIGKILL)
    first.wait()
    assert alive(controllers) == controllers
    second = SweepProcess(words, tmp_path / "output.txt")
    assert second.wait() == 2
    assert f"job {controllers[0]} goes on, for {folder}" in second.output
    events = read_events(folder / "log.jsonl")
    assert [event["event"] for event in events].count("start") == 1
    assert [event["event"] for event in events].count("end") == 1
    ends = read_events(out / "points.jsonl")
    assert sorted(event["status"] for event in ends) == ["failed", "finished", "finished"]
    (error,) = [event["error"] for event in ends if event["status"] == "failed"]
    assert error.endswith("/gone.beton: no such file; want a beton, made by `deit-fast write`")
    assert not alive(controllers)
