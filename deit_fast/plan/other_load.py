"""Counts the cores that other processes keep busy during a measurement, from the kernel's counters."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType

_STAT = Path("/proc/stat")
_IDLE = (3, 4)  # fields of a core's line: idle, and waiting for a disk
_GUEST = 8  # from here on: counted among the user's time already


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
        text = _STAT.read_text()
    except OSError:
        return None
    return time.perf_counter(), busy_seconds(text, os.sched_getaffinity(0)), time.process_time()


def busy_seconds(text: str, cores: set[int]) -> float:
    """Total busy seconds of these cores, from a text as in /proc/stat."""
    ticks = 0
    for line in text.splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            ticks += sum(int(field) for at, field in enumerate(fields[:_GUEST]) if at not in _IDLE)
    return ticks / os.sysconf("SC_CLK_TCK")
