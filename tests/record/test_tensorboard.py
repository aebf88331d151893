from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from deit_fast.config import RunConfig, RunSection, UserError
from deit_fast.record.log import read_events
from deit_fast.record.run import open_run

CONFIG = dataclasses.replace(RunConfig(), run=RunSection(tensorboard=True))
SECONDS = {"compute": 3.5, "data_wait": 0.25}


def write_session(folder: Path, *, epoch: int, step: int, losses: dict[int, float], top1: dict[int, float]) -> None:
    """A session of a run of 4 steps an epoch: training losses by global step, and the ema's top-1 by epoch."""
    with open_run(folder, CONFIG, ["deit-fast"], resume=epoch + step > 0) as run:
        run.write("start", epoch=epoch, step=step, steps_per_epoch=4, device="cpu")
        for place, loss in losses.items():
            run.write("step", epoch=place // 4, step=place, loss=loss, lr=loss / 100, top1=None)
        for of, value in top1.items():
            run.write("epoch", epoch=of, images_per_second=1000.0 + of, seconds=SECONDS)
            run.write("eval", epoch=of, weights="model", top1=value - 1, loss=float("nan"))
            run.write("eval", epoch=of, weights="ema", top1=value, loss=0.5)
        run.write("checkpoint", epoch=epoch, path="checkpoints/last.pt")


def read_scalars(folder: Path) -> dict[str, list[tuple[int, Any]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, pytest.approx(e.value)) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_gets_what_the_log_gets(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    write_session(folder, epoch=0, step=0, losses={1: 2.5, 3: 2.25, 5: 2.0, 7: 1.75}, top1={0: 50.0, 1: 60.0})
    assert read_scalars(folder / "tensorboard") == {
        "train/loss": [(1, 2.5), (3, 2.25), (5, 2.0), (7, 1.75)],
        "train/lr": [(1, 0.025), (3, 0.0225), (5, 0.02), (7, 0.0175)],
        "train/images_per_second": [(3, 1000), (7, 1001)],
        "seconds/compute": [(3, 3.5), (7, 3.5)],
        "seconds/data_wait": [(3, 0.25), (7, 0.25)],
        "eval/top1/model": [(3, 49), (7, 59)],
        "eval/top1/ema": [(3, 50), (7, 60)],
        "eval/loss/ema": [(3, 0.5), (7, 0.5)],
    }
    assert [event["event"] for event in read_events(folder / "log.jsonl")][:3] == ["start", "step", "step"]


def test_resumed_run_replaces_the_steps_that_it_takes_again(tmp_path: Path) -> None:
    """The first session logged 7 of the 8 steps of two epochs; the second goes on behind the 6th."""
    folder = tmp_path / "run"
    write_session(folder, epoch=0, step=0, losses={1: 2.5, 3: 2.25, 5: 2.0, 6: 9.0}, top1={0: 50.0})
    write_session(folder, epoch=1, step=2, losses={6: 1.875, 7: 1.75}, top1={1: 60.0})
    scalars = read_scalars(folder / "tensorboard")
    assert scalars["train/loss"] == [(1, 2.5), (3, 2.25), (5, 2.0), (6, 1.875), (7, 1.75)]
    assert scalars["eval/top1/ema"] == [(3, 50), (7, 60)]


def test_nothing_is_written_unless_asked_for(tmp_path: Path) -> None:
    with open_run(tmp_path / "run", RunConfig(), ["deit-fast"], resume=False) as run:
        run.write("start", epoch=0, steps_per_epoch=4)
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_without_tensorboard_a_run_says_so_before_its_folder_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(UserError, match=r"run\.tensorboard: .*pip install tensorboard") as caught:
        open_run(tmp_path / "run", CONFIG, ["deit-fast"], resume=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_full_disk_ends_the_curves_and_not_the_run(tmp_path: Path) -> None:
    program = """
import resource, sys, threading
from pathlib import Path
from typing import Any
from deit_fast.record.tensorboard import TensorBoard

threading.excepthook = lambda args: None  # TensorBoard's own thread dies of it, loudly
board = TensorBoard(Path(sys.argv[1]))
board.write("start", epoch=0, steps_per_epoch=10)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
for step in range(300):
    board.write("step", step=step, loss=1.0)
board.close()
board.write("step", step=300, loss=1.0)
print("end")
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout == "end\n", done.stderr
    ours = [line for line in done.stderr.splitlines() if line.startswith("deit-fast")]
    assert len(ours) == 1
    assert "TensorBoard's events are no longer written (File too large)" in ours[0]
