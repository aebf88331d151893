"""What others keep busy: counted by core, without what this process does."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from deit_fast.plan import other_load
from deit_fast.plan.other_load import OtherLoad, busy_seconds

STAT = """cpu  900 0 0 0 0 0 0 0 0 0
cpu0 100 20 30 4000 500 6 7 8 90 1
cpu1 200 0 0 1 1 0 0 0 0 0
cpu11 400 0 0 1 1 0 0 0 0 0
intr 5 cpu0
"""


def test_idle_time_and_guests_are_left_out() -> None:
    tick = 1 / os.sysconf("SC_CLK_TCK")
    assert busy_seconds(STAT, {0}) == pytest.approx(171 * tick)
    assert busy_seconds(STAT, {0, 1}) == pytest.approx(371 * tick)


def test_what_this_process_does_is_not_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stat, rate = tmp_path / "stat", os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr(other_load, "_STAT", stat)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    clock, own = iter([10.0, 12.0]), iter([5.0, 6.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(time, "process_time", lambda: next(own))
    stat.write_text(f"cpu0 {2 * rate} 0 0 7\n")
    with OtherLoad() as load:
        stat.write_text(f"cpu0 {5 * rate} 0 0 9\n")
    assert load.cores == pytest.approx(1.0)  # 3 seconds busy, 1 of them ours, in 2 seconds


def test_a_kernel_that_does_not_say_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(other_load, "_STAT", tmp_path / "none")
    with OtherLoad() as load:
        pass
    assert load.cores is None
