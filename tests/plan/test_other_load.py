"""What others keep busy: counted by core, without what this process does."""

from __future__ import annotations

import time

import psutil
import pytest

from deit_fast.plan.other_load import OtherLoad


def test_idle_time_guests_other_cores_and_this_process_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, own = iter([10.0, 12.0]), iter([5.0, 6.0])
    scputimes = type(psutil.cpu_times())
    before = [scputimes(0, 0, 0, 7, 3, 0, 0, 0, 5, 0), scputimes(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)]
    after = [scputimes(2, 0, 0, 9, 8, 0, 0, 1, 9, 0), scputimes(50, 0, 0, 0, 0, 0, 0, 0, 0, 0)]
    counters = iter([before, after])
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0})
    monkeypatch.setattr(psutil, "cpu_times", lambda percpu: next(counters))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(time, "process_time", lambda: next(own))
    with OtherLoad() as load:
        pass
    assert load.cores == pytest.approx(1.0)  # 3 seconds busy, 1 of them ours, in 2 seconds


def test_a_kernel_that_does_not_say_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(percpu: bool) -> None:
        raise FileNotFoundError("/proc/stat")

    monkeypatch.setattr(psutil, "cpu_times", unknown)
    with OtherLoad() as load:
        pass
    assert load.cores is None
