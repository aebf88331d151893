from __future__ import annotations

import io
from typing import Any

import pytest

from deit_fast.record.progress import Progress, dollars, seconds_left


class Hand:
    """A clock's hand that moves when told."""

    def __init__(self) -> None:
        self.moment = 1000.0

    def __call__(self) -> float:
        return self.moment


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def make(file: io.StringIO, hand: Hand, **changes: Any) -> Progress:
    """A run of 4 epochs of 10 steps, of which an earlier session did 5."""
    options: dict[str, Any] = {"total_steps": 40, "first_step": 5, "epochs": 4, "global_batch_size": 128}
    return Progress(**options | changes, file=file, now=hand)


def last_drawn(terminal: Terminal) -> str:
    return terminal.getvalue().replace("\x1b[A", "").split("\r")[-1].strip()


@pytest.mark.parametrize(
    ("done", "left", "seconds", "wanted"),
    [(0, 10, 0.0, None), (0, 10, 5.0, None), (4, 10, 8.0, 20.0), (4, 0, 8.0, 0.0), (0, 0, 0.0, 0.0), (-1, 10, 1.0, None)],
)
def test_seconds_left_are_those_of_the_steps_so_far(done: int, left: int, seconds: float, wanted: float | None) -> None:
    assert seconds_left(done, left, seconds) == wanted


def test_dollars_of_an_hour_and_a_half() -> None:
    assert dollars(5400, 20.0) == 30.0


def test_line_of_an_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    hand, file = Hand(), io.StringIO()
    progress = make(file, hand, dollars_per_hour=36.0, earlier_seconds=3600.0)
    hand.moment += 100.0  # the first step compiles: it does not count for the time left
    for _ in range(5):
        progress.step(0)
        progress.loss(2.5, 1e-3)
        hand.moment += 2.0
    hand.moment += 20.0  # an evaluation does: 4 steps took 30 seconds with it
    progress.epoch_done(0, loss=2.5, images_per_second=1234.5, top1={"model": 50.0, "ema": 51.25})
    progress.close()
    # 30 steps are left, for 225 seconds; 3730 seconds have passed, at a cent each
    assert capsys.readouterr().out == (
        "epoch 1/4: loss 2.5, top-1 model 50.00 %, top-1 ema 51.25 %, 1,234 images/s, 1:02:10 so far, about 3:45 left, "
        "$37.30 of about $39.55\n"
    )


def test_line_without_evaluation_or_price_has_neither(capsys: pytest.CaptureFixture[str]) -> None:
    hand, file = Hand(), io.StringIO()
    progress = make(file, hand)
    progress.step(0)
    progress.epoch_done(0, loss=7.0, images_per_second=10.0, top1={})
    assert capsys.readouterr().out == "epoch 1/4: loss 7, 10 images/s, 0:00 so far\n"


def test_other_ranks_show_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    for file in (io.StringIO(), Terminal()):
        progress = make(file, Hand(), is_shown=False)
        progress.step(0)
        progress.epoch_done(0, loss=7.0, images_per_second=10.0, top1={})
        progress.say("top-1")
        progress.close()
        assert file.getvalue() == ""
    assert capsys.readouterr() == ("", "")


def test_bar_of_the_whole_run_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    hand, terminal = Hand(), Terminal()
    progress = make(terminal, hand, dollars_per_hour=36.0, earlier_seconds=100.0)
    for step in range(5, 15):
        hand.moment += 2.0
        progress.step(step // 10)
    progress.loss(2.51, 5e-4)
    progress.close()
    line = last_drawn(terminal)
    assert line.startswith("epoch 2/4  38%|")
    assert "| 15/40 2:00<0:50, " in line
    assert line.endswith(", 64 images/s, $1.20 of about $1.70, loss 2.51, lr 0.0005")
    assert "\n" not in terminal.getvalue().rstrip("\n")


def test_what_is_said_stands_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr("sys.stderr", terminal)
    progress = Progress(total_steps=10, first_step=0, epochs=1, global_batch_size=8)
    progress.step(0)
    progress.say("a line of its own")
    progress.close()
    lines = [line.rsplit("\r", 1)[-1] for line in terminal.getvalue().split("\n")]
    assert lines[0] == "a line of its own"
    assert lines[1].startswith("epoch 1/1  10%|")
    assert lines[2:] == [""]
