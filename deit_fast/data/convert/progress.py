"""Shows the progress of a conversion: a bar on a terminal, or lines at intervals in a log."""

from __future__ import annotations

import contextlib
import sys
import time
from types import TracebackType

from deit_fast.bar import Bar
from deit_fast.output import droppable_output

_LOG_SECONDS = 30.0


class Progress:
    """Rate, bytes, time left and odd files so far, on stderr; used in a `with` block.

    Draws a bar on a terminal; elsewhere prints a line every half minute, so that a log stays readable.
    A failure to print does not end the block.
    """

    def __init__(self, total: int, what: str = "images") -> None:
        self._total = total
        self._what = what
        self._exit = contextlib.ExitStack()
        self._done = self._found = self._bytes = self._odd = 0
        self._started = self._printed = time.monotonic()

    def __enter__(self) -> Progress:
        self._exit.enter_context(droppable_output())
        self._is_terminal = sys.stderr.isatty()
        bar = Bar(total=self._total, unit=f" {self._what}", disable=not self._is_terminal)
        self._bar = self._exit.enter_context(contextlib.closing(bar))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._exit.close()

    def found(self, num_samples: int) -> None:
        """Counts samples that an earlier process converted; the rate leaves them out."""
        self._found += num_samples
        if self._is_terminal:
            self._bar.initial += num_samples
        self._bar.update(num_samples)

    def add(self, num_samples: int, num_bytes: int = 0, num_odd: int = 0) -> None:
        """Adds converted samples, the bytes that they take, and the number of odd ones among them."""
        self._done += num_samples
        self._bytes += num_bytes
        self._odd += num_odd
        self._bar.set_postfix_str(self._details(), refresh=False)
        self._bar.update(num_samples)
        now = time.monotonic()
        if not self._is_terminal and now - self._printed >= _LOG_SECONDS:
            self._printed = now
            print(self._line(now), file=sys.stderr, flush=True)

    def _details(self) -> str:
        return f"{self._bytes / 1e9:,.2f} GB, {self._odd:,} odd"

    def _line(self, now: float) -> str:
        rate = self._done / (now - self._started)
        done = self._done + self._found
        left = (self._total - done) / rate if rate else float("inf")
        return (
            f"{done:,} of {self._total:,} {self._what}, {rate:,.0f} a second, about {left / 60:,.1f} minutes left, "
            f"{self._details()}"
        )
