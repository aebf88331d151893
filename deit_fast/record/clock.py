"""Measures the wall-clock seconds of a process by kind of activity."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

KINDS = ("setup", "compile", "data_wait", "compute", "evaluation", "checkpoint", "other")


class Clock:
    """Charges every moment since the process was created to exactly one of KINDS, at first to setup.

    The kinds therefore sum to the wall-clock time, whatever the order of the switches. For the main thread only.

    Args:
        started: Moment on the scale of `now` from which to count; None: the creation of this process, so that imports
            count as setup.
        earlier: Seconds by kind of earlier sessions of the same run, as `add_earlier` takes them.
        now: Gives the current moment in seconds, never going back.
    """

    def __init__(
        self,
        started: float | None = None,
        earlier: Mapping[str, float] | None = None,
        now: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._now = now
        self._started = now() - process_seconds() if started is None else started
        self._last = self._started
        self._kind = KINDS[0]
        self._seconds = dict.fromkeys(KINDS, 0.0)
        self._earlier = dict.fromkeys(KINDS, 0.0)
        if earlier is not None:
            self.add_earlier(earlier)

    @property
    def kind(self) -> str:
        """The kind that is running."""
        return self._kind

    @property
    def wall_seconds(self) -> float:
        """Seconds of this session so far: the sum of `seconds()`."""
        return self._now() - self._started

    @property
    def run_seconds(self) -> float:
        """Seconds of all sessions of the run so far: the sum of `total_seconds()`."""
        return self.wall_seconds + sum(self._earlier.values())

    def switch(self, kind: str) -> None:
        """Charges the time since the last switch to the kind that was running, and runs `kind` from now on.

        Called several times in each training step: under a microsecond. Raises ValueError for an unknown kind.
        """
        if kind not in self._seconds:
            raise _unknown(kind)
        now = self._now()
        self._seconds[self._kind] += now - self._last
        self._last = now
        self._kind = kind

    @contextmanager
    def during(self, kind: str) -> Iterator[None]:
        """Runs `kind` inside the block and the former kind after it, also when the block raises."""
        former = self._kind
        self.switch(kind)
        try:
            yield
        finally:
            self.switch(former)

    def seconds(self) -> dict[str, float]:
        """Seconds of this session by kind, the running one included."""
        seconds = dict(self._seconds)
        seconds[self._kind] += self._now() - self._last
        return seconds

    def add_earlier(self, seconds: Mapping[str, float]) -> None:
        """Adds the seconds by kind of an earlier session, as a checkpoint kept them. ValueError for an unknown kind."""
        for kind, value in seconds.items():
            if kind not in self._earlier:
                raise _unknown(kind)
            self._earlier[kind] += value

    def total_seconds(self) -> dict[str, float]:
        """Seconds of all sessions of the run by kind: the earlier ones and this one."""
        return {kind: self._earlier[kind] + value for kind, value in self.seconds().items()}


def process_seconds() -> float:
    """Seconds since this process was created, to within a hundredth where there is /proc."""
    try:
        stat = Path("/proc/self/stat").read_bytes()
    except OSError:
        return max(0.0, time.time() - psutil.Process().create_time())
    # psutil adds the time of the boot, which Linux gives in whole seconds: up to a second off. Both numbers here count
    # from the boot. The name of the process is in parentheses and may hold spaces; `starttime` is the 20th field after.
    ticks = int(stat.rpartition(b")")[2].split()[19])
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))


def _unknown(kind: str) -> ValueError:
    return ValueError(f"kind={kind!r}: want one of {', '.join(KINDS)}")
