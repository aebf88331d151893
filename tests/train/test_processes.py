"""Runs as processes: killed and resumed, two ranks with and without torchrun, and the status and the one line of bad input."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from deit_fast.__main__ import main
from deit_fast.record.log import read_events
from deit_fast.train.checkpoint import load_checkpoint
from tests.scale import scaled
from tests.tiny_runs import events_of
from tests.train.sessions import Session, free_port

SLOW = pytest.mark.slow

_MODEL = (
    "--model.name=deit_tiny_patch16_224",
    "--model.options=patch_size=8,embed_dim=24,depth=2,num_heads=2,dynamic_img_size=true",
)


def _arguments(digits: Path, folder: Path, *changes: str) -> list[str]:
    return [
        "train", f"--data.train={digits / 'train.beton'}", f"--data.val={digits / 'val.beton'}", f"--run.dir={folder}",
        "--data.resolution=32", "--data.num_workers=1", "--augment.flip=0", *_MODEL, "--train.ema_decay=0.9",
        "--schedule.warmup_epochs=1", "--train.device=cpu", "--train.log_every=1", *changes,
    ]  # fmt: skip


def _start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "deit_fast", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _run(*words: str, program: tuple[str, ...] = ("-m", "deit_fast")) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *program, *words], capture_output=True, text=True, check=False, timeout=280)


def _torchrun(*words: str) -> subprocess.CompletedProcess[str]:
    return _run(*words, program=("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "deit_fast"))


def _wait_for(folder: Path, event: str, epoch: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        log = folder / "log.jsonl"
        if log.exists() and any(e["event"] == event and e["epoch"] == epoch for e in read_events(log)):
            return
        time.sleep(0.02)
    raise AssertionError(f"no {event} of epoch {epoch}: {process.communicate()}")


def _steps_done(folder: Path) -> int:
    """Steps of a run that its log has, also one that is being written; logged one by one."""
    log = folder / "log.jsonl"
    if not log.exists():
        return 0
    lines = [json.loads(line) for line in log.read_text().split("\n")[:-1]]
    return max((event["step"] + 1 for event in lines if event["event"] == "step"), default=0)


@SLOW
@pytest.mark.timeout(600)
@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_at_random_steps_it_ends_with_the_same_weights(digits: Path, tmp_path: Path, ranks: int) -> None:
    """Ten times in five epochs, or a share of that: after all ten the weights were the same."""
    num_kills = scaled(10, 3)
    num_epochs = max(2, num_kills // 2)
    options = (
        f"--data.batch_size={64 // ranks}", f"--train.epochs={num_epochs}", "--train.checkpoint_steps=3",
        "--train.channels_last=false", "--train.resume",
    )  # fmt: skip

    def start(name: str) -> Session:
        return Session(_arguments(digits, tmp_path / name, *options), tmp_path / f"{name}.txt", ranks)

    whole = start("whole")
    assert whole.wait() == 0, whole.stderr

    generator = np.random.default_rng(ranks)
    for target in sorted(generator.choice(np.arange(1, num_epochs * 22), num_kills, replace=False)):
        session = start("parts")
        deadline = time.monotonic() + 120
        while _steps_done(tmp_path / "parts") < target and session.is_running and time.monotonic() < deadline:
            time.sleep(0.001)
        assert session.is_running, session.stderr
        session.kill()
        assert [rank.exitcode for rank in session.ranks] == ranks * [-signal.SIGKILL]
    last = start("parts")
    assert last.wait() == 0, last.stderr

    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "parts")]
    assert summaries[0]["weights_sha256"] == summaries[1]["weights_sha256"]
    assert summaries[0]["best_top1"] == summaries[1]["best_top1"]
    contents = [load_checkpoint(tmp_path / name / "checkpoints" / "last.pt") for name in ("whole", "parts")]
    for key, value in contents[0]["state_dict_ema"].items():
        assert torch.equal(value, contents[1]["state_dict_ema"][key])
    starts = [e["step"] + 22 * e["epoch"] for e in events_of(tmp_path / "parts", "start")]
    assert len(set(starts)) > 0.4 * num_kills  # it did go on, from several places
    assert not [path for path in (tmp_path / "parts").rglob("*") if path.name.endswith(".part")]


@SLOW
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_a_notice_to_one_of_two_ranks_ends_both_in_a_checkpoint(digits: Path, tmp_path: Path, number: signal.Signals) -> None:
    folder = tmp_path / "run"
    words = _arguments(digits, folder, "--data.batch_size=32", "--train.epochs=200")
    session = Session(words, tmp_path / "run.txt", 2)
    deadline = time.monotonic() + 120
    while _steps_done(folder) < 30 and session.is_running and time.monotonic() < deadline:
        time.sleep(0.01)
    before = _steps_done(folder)
    second = session.ranks[1].pid
    assert second is not None
    os.kill(second, number)
    assert session.wait() == 0, session.stderr
    stopped = events_of(folder, "stopped")
    assert [event["reason"] for event in stopped] == [number.name]
    place = 22 * stopped[0]["epoch"] + stopped[0]["step"]
    assert load_checkpoint(folder / "checkpoints" / "last.pt")["step"] == place == _steps_done(folder)
    assert before <= place <= before + 50  # steps take milliseconds here, and the signal its way


STAGES = ("--schedule.stages=[{epochs: 1, data.resolution: 16, augment.erase: 0}, {epochs: 1}]", "--data.shrink=frequency")


@SLOW
@pytest.mark.parametrize("stages", [(), STAGES], ids=["plain", "stages"])
def test_two_ranks_are_one_with_the_doubled_batch(digits: Path, tmp_path: Path, stages: tuple[str, ...]) -> None:
    """The same losses, and, going on with the other number of ranks, the same again."""
    options = (
        *stages, "--train.epochs=2", "--augment.mixup=off", "--augment.cutmix=off", "--model.drop_path=0",
        "--train.checkpoint_steps=10", "--train.keep_last=3",
    )  # fmt: skip
    one = Session(_arguments(digits, tmp_path / "one", "--data.batch_size=64", *options), tmp_path / "one.txt")
    two = Session(_arguments(digits, tmp_path / "two", "--data.batch_size=32", *options), tmp_path / "two.txt", 2)
    assert (one.wait(), two.wait()) == (0, 0), one.stderr + two.stderr

    def losses(name: str) -> list[float]:
        return [event["loss"] for event in events_of(tmp_path / name, "step")]

    np.testing.assert_allclose(losses("two"), losses("one"), rtol=1e-5)

    shutil.copytree(tmp_path / "two", tmp_path / "mixed")
    for path in (tmp_path / "mixed" / "checkpoints").iterdir():
        if path.name != "step-00000032.pt":
            path.unlink()
    (tmp_path / "mixed" / "log.jsonl").unlink()
    words = _arguments(digits, tmp_path / "mixed", "--data.batch_size=64", *options, "--train.resume")
    mixed = Session(words, tmp_path / "mixed.txt")
    assert mixed.wait() == 0, mixed.stderr
    assert len(losses("mixed")) == 12
    np.testing.assert_allclose(losses("mixed"), losses("one")[32:], rtol=1e-5)


@pytest.mark.long
@SLOW
@pytest.mark.timeout(400)
def test_two_nodes_go_on_after_the_death_of_a_worker(digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    words = _arguments(digits, folder, "--data.batch_size=32", "--train.epochs=4", "--train.checkpoint_steps=5")
    port = free_port()
    nodes = [
        subprocess.Popen(
            [
                sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1", "--max-restarts=3",
                "--rdzv-backend=c10d", "--rdzv-id=loopback", f"--rdzv-endpoint=127.0.0.1:{port}",
                "--local-addr=127.0.0.1", "-m", "deit_fast", *words,
            ],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(2)
    ]  # fmt: skip
    deadline = time.monotonic() + 200
    while _steps_done(folder) < 30 and time.monotonic() < deadline and all(node.poll() is None for node in nodes):
        time.sleep(0.01)
    workers = [psutil.Process(node.pid).children() for node in nodes]
    assert all(workers), [node.communicate() for node in nodes]
    workers[1][0].send_signal(signal.SIGKILL)
    outcomes = [node.communicate(timeout=240) for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], outcomes
    assert not any("finds no checkpoint" in stderr for _, stderr in outcomes), outcomes  # the first restart goes on
    assert json.loads((folder / "summary.json").read_text())["epoch"] == 3
    starts = [22 * e["epoch"] + e["step"] for e in events_of(folder, "start")]
    assert len(starts) >= 2
    assert starts[-1] >= 25


@SLOW
def test_two_ranks_train_together(digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    done = _torchrun(*_arguments(digits, folder, "--data.batch_size=32", "--train.epochs=2"))
    # the run itself compares the ranks' weights and fails if they differ
    assert done.returncode == 0, done.stderr
    events = read_events(folder / "log.jsonl")
    assert events[0]["world_size"] == 2
    assert events[0]["global_batch_size"] == 64
    assert {event["num_images"] for event in events if event["event"] == "eval"} == {359}
    assert sum(event["event"] == "start" for event in events) == 1

    best = folder / "checkpoints" / "best.pt"
    out = tmp_path / "eval.json"
    words = ["eval", f"--eval.checkpoint={best}", f"--data.val={digits / 'val.beton'}"]
    both = Session([*words, f"--out={out}"], tmp_path / "eval.txt", 2)
    assert both.wait() == 0, both.stderr
    capsys.readouterr()
    assert main(words) == 0
    result = json.loads(out.read_text())
    assert result["num_images"] == 359
    assert f"top-1 {result['top1']:.2f} %" in capsys.readouterr().out


@SLOW
def test_odd_batch_of_two_ranks_is_one_line(digits: Path, tmp_path: Path) -> None:
    words = _arguments(digits, tmp_path / "run", "--data.batch_size=31", "--augment.mix_mode=pair")
    session = Session(words, tmp_path / "run.txt", 2)
    assert session.wait() == 2
    (line,) = session.stderr.splitlines()
    assert line.startswith("deit-fast train: ")
    assert "data.batch_size=31" in line
    assert "even batch on each of the 2 rank(s)" in line
    assert not (tmp_path / "run").exists()


@SLOW
def test_bad_input_is_one_line_and_status_2(digits: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.beton"
    cut.write_bytes((digits / "train.beton").read_bytes()[:5000])
    done = _run("train", f"--data.train={cut}", f"--data.val={digits / 'val.beton'}", f"--run.dir={tmp_path / 'run'}")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert str(cut) in done.stderr
    assert not (tmp_path / "run").exists()


@SLOW
def test_interrupt_ends_a_run_and_its_threads(digits: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    process = _start(*_arguments(digits, folder, "--data.batch_size=64", "--train.epochs=100"))
    _wait_for(folder, "checkpoint", 0, process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "deit-fast train: interrupted"
    assert "Traceback" not in stderr
    load_checkpoint(folder / "checkpoints" / "last.pt")
