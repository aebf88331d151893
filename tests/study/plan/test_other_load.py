"""What others keep busy: counted by core, without what this process does."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from deit_fast.study.plan import other_load
from deit_fast.study.plan.other_load import OtherLoad, busy_seconds

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


def test_what_this_process_does_is_not_counted() -> None:
    def spin(seconds: float) -> None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            pass

    with OtherLoad() as quiet:
        spin(0.5)
    busy = subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=subprocess.PIPE)
    try:
        assert busy.stdout is not None
        busy.stdout.readline()
        with OtherLoad() as shared:
            spin(0.5)
    finally:
        busy.kill()
        busy.communicate()
    assert quiet.cores is not None
    assert shared.cores is not None
    assert shared.cores > quiet.cores or quiet.cores > 0.5  # or something else is busy already


def test_a_kernel_that_does_not_say_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(other_load, "_STAT", tmp_path / "none")
    with OtherLoad() as load:
        pass
    assert load.cores is None
