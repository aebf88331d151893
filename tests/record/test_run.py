from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest
import torch

from deit_fast.config import ModelConfig, OptimConfig, RunConfig, TrainConfig, UserError
from deit_fast.record import run as record
from deit_fast.record.log import EventLog, read_events
from deit_fast.record.runs import load_run

COMMAND = ["deit-fast", "train", "--model.name=deit_tiny_patch16_224"]
CONFIG = RunConfig(model=ModelConfig(name="deit_tiny_patch16_224"))


def test_run_writes_down_what_was_asked_on_what(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "first"
    with record.open_run(folder, CONFIG, COMMAND, resume=False) as run:
        assert run.folder == folder
        assert run.checkpoints.is_dir()
        run.log.write("start", epoch=0)
        run.finish({"best_top1": 97.5, "loss": float("nan"), "best_epoch": numpy.int64(3)})
    written = json.loads((folder / "run.json").read_text())
    assert written["format"] == 1
    assert written["name"] == "first"
    assert written["command"] == COMMAND
    assert written["config"] == json.loads(json.dumps(CONFIG.as_dict()))
    assert written["versions"]["torch"] == torch.__version__.partition("+")[0]  # which build is not in its metadata
    assert written["versions"]["numpy"] == numpy.__version__
    assert written["hardware"]["logical_cores"] == os.cpu_count()
    assert [session["command"] for session in written["sessions"]] == [COMMAND]
    assert [event["event"] for event in read_events(folder / "log.jsonl")] == ["start"]
    summary = json.loads((folder / "summary.json").read_text())
    assert summary == {"best_top1": 97.5, "loss": None, "best_epoch": 3}
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoints", "log.jsonl", "run.json", "summary.json"]


def test_run_is_not_begun_over_another(tmp_path: Path) -> None:
    record.open_run(tmp_path, CONFIG, COMMAND, resume=False).close()
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(UserError, match=r"holds a run; .*--train\.resume.*--run\.dir") as caught:
        record.open_run(tmp_path, CONFIG, COMMAND, resume=False)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "run.json").read_bytes() == before


def test_other_versions_than_the_run_began_with_are_a_remark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    began = record.versions()
    with record.open_run(tmp_path, CONFIG, COMMAND, resume=True) as run:
        assert run.remarks == ()
    with record.open_run(tmp_path, CONFIG, COMMAND, resume=True) as run:
        assert run.remarks == ()
    monkeypatch.setattr(record, "versions", lambda: {**began, "torch": "9.9", "timm": None})
    with record.open_run(tmp_path, CONFIG, COMMAND, resume=True) as run:
        (line,) = run.remarks
    assert line.endswith(f": torch {began['torch']}, now 9.9; timm {began['timm']}, now None")


@pytest.mark.slow
def test_run_of_another_process_is_left_alone(tmp_path: Path) -> None:
    program = f"""
import sys
from deit_fast.config import ModelConfig, RunConfig
from deit_fast.record.run import open_run
run = open_run({str(tmp_path)!r}, RunConfig(model=ModelConfig(name="deit_tiny_patch16_224")), [], resume=False)
print("open", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        before = (tmp_path / "run.json").read_bytes()
        with pytest.raises(UserError, match=r"run\.dir=.*: another process is running in it"):
            record.open_run(tmp_path, CONFIG, COMMAND, resume=True)
        assert (tmp_path / "run.json").read_bytes() == before
        other.kill()
    record.open_run(tmp_path, CONFIG, COMMAND, resume=True).close()


def test_resumed_run_keeps_its_first_session_and_notes_what_changed(tmp_path: Path) -> None:
    with record.open_run(tmp_path, CONFIG, COMMAND, resume=True) as run:  # nothing to resume: begins
        run.log.write("start", epoch=0)
    first = json.loads((tmp_path / "run.json").read_text())
    longer = dataclasses.replace(CONFIG, train=TrainConfig(epochs=400, resume=True))
    with record.open_run(tmp_path, longer, [*COMMAND, "--train.resume"], resume=True) as run:
        run.log.write("start", epoch=7)
    both = json.loads((tmp_path / "run.json").read_text())
    assert {**both, "sessions": both["sessions"][:1]} == first
    assert both["sessions"][1]["command"] == [*COMMAND, "--train.resume"]
    # the checkout may change under a test, its commit does not belong to what is compared here
    changes = {name: value for name, value in both["sessions"][1]["changes"].items() if name != "git_commit"}
    assert changes == {"config.train.epochs": 400, "config.train.resume": True}
    assert [event["epoch"] for event in read_events(tmp_path / "log.jsonl")] == [0, 7]


def test_a_run_of_a_version_without_words_goes_on_unchanged(tmp_path: Path) -> None:
    record.open_run(tmp_path, CONFIG, COMMAND, resume=False).close()
    old = json.loads((tmp_path / "run.json").read_text())
    old["config"]["optim"] |= {"clip": 0.0, "no_decay": "none"}
    old["config"]["budget"] |= {"hours": -1.0, "dollars": -1.0}
    old["sessions"][0]["changes"] = {"config.augment.cutmix_minmax": [0.0, 0.0], "config.train.keep_every": 0}
    (tmp_path / "run.json").write_text(json.dumps(old))
    with EventLog(tmp_path / "log.jsonl") as log:
        log.write("start", epoch=0)
    config = load_run(tmp_path).config
    assert (config["optim.clip"], config["optim.no_decay"], config["budget.hours"]) == (None, "off", None)
    assert (config["augment.cutmix_minmax"], config["train.keep_every"]) == (None, None)
    off = dataclasses.replace(CONFIG, optim=OptimConfig(no_decay="off"))
    with record.open_run(tmp_path, off, COMMAND, resume=True):
        changes = record.read_run(tmp_path)["sessions"][1]["changes"]
    assert not [name for name in changes if name.startswith("config.")]


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 2, "sessions": []}', '{"format": 1}'])
def test_broken_record_is_not_gone_on_with(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(UserError, match=r"run\.json: (broken|not a run)"):
        record.open_run(tmp_path, CONFIG, COMMAND, resume=True)
    assert (tmp_path / "run.json").read_text() == text


def test_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"run\.dir=.*file/run: cannot be written \(Not a directory\)"):
        record.open_run(tmp_path / "file" / "run", CONFIG, COMMAND, resume=False)


def test_json_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    record.write_json(path, {"top1": 1})

    def full_disk(_: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="no space left"):
        record.write_json(path, {"top1": 2})
    with pytest.raises(TypeError):
        record.write_json(path, {"top1": object()})
    assert json.loads(path.read_text()) == {"top1": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_hardware_counts_the_cores_that_this_process_may_use() -> None:
    hardware = record.hardware()
    assert hardware["allowed_cores"] == len(os.sched_getaffinity(0))
    assert hardware["memory_bytes"] == os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert hardware["cpu"]
    listed = Path("/proc/cpuinfo").read_text().split()
    assert ("avx2" in hardware["cpu_vectors"]) == ("avx2" in listed)
    assert ("avx512vnni" in hardware["cpu_vectors"]) == ("avx512_vnni" in listed)
    assert len(hardware["gpus"]) == torch.cuda.device_count()


@pytest.fixture
def checkout(tmp_path: Path) -> tuple[Path, Callable[..., str]]:
    """A git checkout with a committed package, and a way to run git in it."""
    root = tmp_path / "checkout"
    (root / "package").mkdir(parents=True)
    (root / "package" / "a.py").write_text("a = 1\n")
    (root / "README").write_text("\n")

    def git(*arguments: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        return subprocess.run(
            ["git", "-C", str(root), *who, *arguments], check=True, capture_output=True, text=True
        ).stdout.strip()

    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    return root, git


def test_commit_of_the_checkout_and_whether_it_was_changed(checkout: tuple[Path, Callable[..., str]]) -> None:
    root, git = checkout
    package = root / "package"
    commit = git("rev-parse", "HEAD")
    assert record.git_commit(package) == commit
    (root / "data.bin").write_text("a new file outside the package changes nothing that runs")
    assert record.git_commit(package) == commit
    (package / "new.py").write_text("")
    assert record.git_commit(package) == commit + "+changes"
    (package / "new.py").unlink()
    (root / "README").write_text("changed\n")
    assert record.git_commit(package) == commit + "+changes"


def test_no_commit_outside_git(checkout: tuple[Path, Callable[..., str]], tmp_path: Path) -> None:
    root, _ = checkout
    installed = root / "venv" / "package"  # inside the checkout, but no part of it
    installed.mkdir(parents=True)
    assert record.git_commit(installed) is None
    assert record.git_commit(tmp_path) is None
