"""Runs whose output is closed, full or gone at a random moment: they end with the weights of a run that was left alone."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.scale import scaled
from tests.tiny_runs import events_of
from tests.train.sessions import Session

pytestmark = pytest.mark.slow

_EPOCHS, _STEPS = 6, 4  # in each epoch
_KINDS = ("reader", "full", "terminal", "full from the start") * 3
_REASONS = {"reader": "Broken pipe", "full": "No space left on device", "terminal": "Input/output error"}


def _words(digits: Path, folder: Path | None, ranks: int) -> list[str]:
    return [
        "train", f"--data.train={digits / 'train.beton'}", f"--data.val={digits / 'val.beton'}", "--data.resolution=32",
        "--data.num_workers=1", f"--data.batch_size={64 // ranks}", f"--data.subset={64 * _STEPS}", "--augment.flip=0",
        "--model.name=deit_tiny_patch16_224", "--model.options=patch_size=8,embed_dim=24,depth=2,num_heads=2",
        "--schedule.warmup_epochs=1", "--train.device=cpu", "--train.log_every=1", f"--train.epochs={_EPOCHS}",
        *([f"--run.dir={folder}"] if folder else []),
    ]  # fmt: skip


def _wait_for_steps(run: Callable[[], Path], count: int, process: Session | subprocess.Popen[bytes]) -> None:
    def is_running() -> bool:
        return process.is_running if isinstance(process, Session) else process.poll() is None

    deadline = time.monotonic() + 120
    while len(events_of(run(), "step")) < count and is_running() and time.monotonic() < deadline:
        time.sleep(0.002)
    assert len(events_of(run(), "step")) >= count


def _weights(folder: Path) -> str:
    digest: str = json.loads((folder / "summary.json").read_text())["weights_sha256"]
    return digest


@contextlib.contextmanager
def _pipe(path: Path) -> Iterator[tuple[str, Callable[[], None]]]:
    """A pipe to write to, and what ends its reader."""
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield str(path), lambda: os.close(reader)


@contextlib.contextmanager
def _terminal() -> Iterator[tuple[str, Callable[[], None]]]:
    """A terminal to write to, and what closes it. Its lines stay few enough to wait there unread."""
    master, terminal = os.openpty()
    name = os.ttyname(terminal)

    def close() -> None:
        os.close(terminal)
        os.close(master)

    yield name, close


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("ranks", "at_least"), [(1, 4), (2, 2)])
def test_runs_that_lose_their_output_all_end_with_the_same_weights(
    digits: Path, tmp_path: Path, ranks: int, at_least: int
) -> None:
    """Twelve times, or a share of that: all twelve ended with the weights of the first."""
    alone = Session(_words(digits, tmp_path / "alone", ranks), tmp_path / "alone.txt", ranks)
    assert alone.wait() == 0, alone.stderr
    wanted = _weights(tmp_path / "alone")
    assert not events_of(tmp_path / "alone", "output_dropped")

    draw = random.Random(ranks)
    for number, kind in enumerate(_KINDS[: scaled(len(_KINDS), at_least)]):
        folder, full = tmp_path / str(number), tmp_path / f"{number}.full"
        with contextlib.ExitStack() as stack:
            output, lose = "/dev/full", lambda: None  # from the start
            if kind == "reader":
                output, lose = stack.enter_context(_pipe(tmp_path / f"{number}.pipe"))
            elif kind == "terminal":
                output, lose = stack.enter_context(_terminal())
            elif kind == "full":
                output, lose = os.devnull, full.touch
            errors = output if output != os.devnull else str(tmp_path / f"{number}.txt")
            session = Session(_words(digits, folder, ranks), Path(errors), ranks, output, full if kind == "full" else None)
            _wait_for_steps(functools.partial(Path, folder), draw.randrange(1, _STEPS * (_EPOCHS - 1)), session)
            lose()
        assert session.wait() == 0, (kind, number)
        assert _weights(folder) == wanted, (kind, number)
        dropped = {event["stream"]: event["error"] for event in events_of(folder, "output_dropped")}
        assert dropped["standard output"] == _REASONS[kind.split()[0]]
        assert len(events_of(folder, "output_dropped")) == len(dropped)
        assert len(events_of(folder, "epoch")) == _EPOCHS


def _torchrun(words: list[str], cwd: Path, **options: Any) -> subprocess.Popen[bytes]:
    launcher = "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "deit_fast"
    paths = os.pathsep.join([str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths}
    return subprocess.Popen([sys.executable, *launcher, *words], cwd=cwd, env=environment, **options)


def _only_run(cwd: Path) -> Path:
    """The folder of the only run that was started there without one; it may not be there yet."""
    found = [*(cwd / "runs").glob("deit_tiny_patch16_224-*")]
    assert len(found) < 2
    return found[0] if found else cwd / "none"


@pytest.mark.long
@pytest.mark.timeout(400)
def test_under_torchrun(digits: Path, tmp_path: Path) -> None:
    """Output that goes to a pipe whose reader ends; then the end of the terminal, to which nohup had torchrun deaf."""
    alone = Session(_words(digits, tmp_path / "alone", 2), tmp_path / "alone.txt", 2)
    assert alone.wait() == 0, alone.stderr
    wanted = _weights(tmp_path / "alone")

    reader, writer = os.pipe()
    process = _torchrun(_words(digits, None, 2), tmp_path, stdout=writer, stderr=writer)
    os.close(writer)
    _wait_for_steps(lambda: _only_run(tmp_path), 7, process)
    os.close(reader)
    assert process.wait(120) == 0
    run = _only_run(tmp_path)
    assert _weights(run) == wanted
    assert [e["stream"] for e in events_of(run, "output_dropped")][:1] == ["standard output"]

    folder = tmp_path / "hung up"
    words = [*_words(digits, folder, 2), "--train.resume"]
    process = _torchrun(
        words, tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    _wait_for_steps(lambda: folder, 5, process)
    process.send_signal(signal.SIGHUP)
    assert process.wait(120) != 0  # torchrun's own
    (stopped,) = events_of(folder, "stopped")
    assert stopped["reason"] == "SIGHUP"
    assert not (folder / "summary.json").exists()
    rest = Session(words, tmp_path / "rest.txt", 2)
    assert rest.wait() == 0, rest.stderr
    assert _weights(folder) == wanted
