"""Runs as processes: killed and resumed, two ranks under torchrun, and the status and the one line of bad input."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from deit_fast.record.log import read_events
from deit_fast.train.checkpoint import load_checkpoint

SLOW = pytest.mark.slow

_MODEL = "--model.name=deit_tiny_patch16_224", "--model.options=patch_size=8,embed_dim=24,depth=2,num_heads=2"


def _arguments(digits: Path, folder: Path, *changes: str) -> list[str]:
    return [
        "train", f"--data.train={digits / 'train.beton'}", f"--data.val={digits / 'val.beton'}", f"--run.dir={folder}",
        "--data.resolution=32", "--data.num_workers=1", "--augment.flip=0", *_MODEL, "--train.ema_decay=0.9",
        "--schedule.warmup_epochs=1", "--train.device=cpu", "--train.log_every=5", *changes,
    ]  # fmt: skip


def _start(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "deit_fast", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _run(*words: str, program: tuple[str, ...] = ("-m", "deit_fast")) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *program, *words], capture_output=True, text=True, check=False, timeout=280)


def _torchrun(*words: str) -> subprocess.CompletedProcess[str]:
    program = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "deit_fast")
    return _run(*words, program=program)


def _wait_for(folder: Path, event: str, epoch: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        log = folder / "log.jsonl"
        if log.exists() and any(e["event"] == event and e["epoch"] == epoch for e in read_events(log)):
            return
        time.sleep(0.02)
    raise AssertionError(f"no {event} of epoch {epoch}: {process.communicate()}")


@SLOW
def test_killed_and_resumed_ends_with_the_same_weights(digits: Path, tmp_path: Path) -> None:
    options = ("--data.batch_size=64", "--train.epochs=4")
    whole = _run(*_arguments(digits, tmp_path / "whole", *options))
    assert whole.returncode == 0, whole.stderr

    parts = tmp_path / "parts"
    for event, epoch in (("checkpoint", 0), ("step", 2)):
        process = _start(*_arguments(digits, parts, *options, "--train.resume"))
        _wait_for(parts, event, epoch, process)
        process.send_signal(signal.SIGKILL)
        process.wait()
    last = _run(*_arguments(digits, parts, *options, "--train.resume"))
    assert last.returncode == 0, last.stderr

    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("whole", "parts")]
    assert summaries[0]["weights_sha256"] == summaries[1]["weights_sha256"]
    assert summaries[0]["best_top1"] == summaries[1]["best_top1"]
    contents = [load_checkpoint(tmp_path / name / "checkpoints" / "last.pt") for name in ("whole", "parts")]
    for key, value in contents[0]["state_dict_ema"].items():
        assert torch.equal(value, contents[1]["state_dict_ema"][key])
    assert not [path for path in parts.rglob("*") if path.name.endswith(".part")]


@SLOW
def test_two_ranks_train_together(digits: Path, tmp_path: Path) -> None:
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
    done = _torchrun("eval", f"--eval.checkpoint={best}", f"--data.val={digits / 'val.beton'}", f"--out={out}")
    assert done.returncode == 0, done.stderr
    alone = _run("eval", f"--eval.checkpoint={best}", f"--data.val={digits / 'val.beton'}")
    result = json.loads(out.read_text())
    assert result["num_images"] == 359
    assert f"top-1 {result['top1']:.2f} %" in alone.stdout


@SLOW
def test_odd_batch_under_torchrun_is_one_line(digits: Path, tmp_path: Path) -> None:
    done = _torchrun(*_arguments(digits, tmp_path / "run", "--data.batch_size=31", "--augment.mix_mode=pair"))
    assert done.returncode != 0
    ours = [line for line in done.stderr.splitlines() if line.startswith("deit-fast")]
    assert len(ours) == 1
    assert "data.batch_size=31" in ours[0]
    assert "even batch on each of the 2 rank(s)" in ours[0]
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
