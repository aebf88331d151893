"""Counts the cores that other processes keep busy during a measurement, from the kernel's counters."""

from __future__ import annotations

import os
import time
from types import TracebackType

import psutil

_NUM_KINDS = 8  # of a core's times; those behind them, of guests, are counted among the user's already


class OtherLoad:
    """While it is entered, counts. `cores` is then the mean number of this process's cores that were busy with anything else,
    other virtual machines on the same processor included (steal); None where the kernel does not say.
    """

    def __init__(self) -> None:
        self.cores: float | None = None
        self._before: tuple[float, float, float] | None = None

    def __enter__(self) -> OtherLoad:
        self._before = _counted()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        after = _counted()
        if self._before is not None and after is not None:
            elapsed, busy, own = (now - then for now, then in zip(after, self._before, strict=True))
            self.cores = max(0.0, busy - own) / max(elapsed, 1e-9)


def _counted() -> tuple[float, float, float] | None:
    """Seconds of wall-clock time, of busy time on all cores of this process, and of CPU time of this process."""
    try:
        times, ours = psutil.cpu_times(percpu=True), os.sched_getaffinity(0)
        busy = sum(sum(core[:_NUM_KINDS]) - core.idle - core.iowait for at, core in enumerate(times) if at in ours)
    except OSError:
        return None
    return time.perf_counter(), busy, time.process_time()
