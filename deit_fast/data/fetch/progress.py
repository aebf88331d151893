"""Shows how much of the copies is there: a bar on a terminal, or lines at intervals in a log."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time

from deit_fast.bar import Bar
from deit_fast.output import droppable_output

_LOG_SECONDS = 30.0


def tell(line: str) -> None:
    """Prints a line on stderr, from one process of each node."""
    if os.environ.get("RANK", "0") == "0" or os.environ.get("LOCAL_RANK") == "0":
        with droppable_output():
            print(f"deit_fast: {line}", file=sys.stderr, flush=True)


class CopyProgress:
    """Bytes copied by all threads, rate and time left, on stderr; used in a `with` block. Threads call `add`."""

    def __init__(self, num_bytes: int) -> None:
        self._num_bytes = num_bytes
        self._exit = contextlib.ExitStack()
        self._lock = threading.Lock()

    def __enter__(self) -> CopyProgress:
        self._exit.enter_context(droppable_output())
        self._is_terminal = sys.stderr.isatty()
        bar = Bar(total=self._num_bytes, desc="copies", unit="B", unit_scale=True, disable=not self._is_terminal)
        self._bar = self._exit.enter_context(contextlib.closing(bar))
        self._started, self._printed, self._copied = time.monotonic(), time.monotonic(), 0
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def add(self, num_bytes: int) -> None:
        with self._lock:
            self._copied += num_bytes
            self._bar.update(num_bytes)
            now = time.monotonic()
            if not self._is_terminal and now - self._printed >= _LOG_SECONDS:
                self._printed = now
                print(self._line(now), file=sys.stderr, flush=True)

    def _line(self, now: float) -> str:
        rate = self._copied / (now - self._started)
        left = max(0, self._num_bytes - self._copied) / rate
        return (
            f"copied {self._copied / 1e9:,.2f} of {self._num_bytes / 1e9:,.2f} GB, {rate / 1e6:,.1f} MB/s, about "
            f"{left / 60:,.1f} minutes left"
        )
