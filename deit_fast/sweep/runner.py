"""Runs the points of a sweep, several at once, none twice, until all end or the sweep is told to stop."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Protocol

from deit_fast.config import UserError
from deit_fast.record.run import read_json
from deit_fast.sweep.costs import Budget, spent_seconds
from deit_fast.sweep.here import Ended
from deit_fast.sweep.ledger import Ledger, is_finished
from deit_fast.sweep.points import Point

_POLL_SECONDS = 0.1
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_SECONDS = 1.0  # a process may be sent several signals at once: within so many seconds they count as one


class Attempt(Protocol):
    """An attempt to train a point, as a process or as a job."""

    point: Point
    started: float  # on the scale of time.monotonic

    def ended(self) -> Ended | None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


# starts an attempt in a slot, from 0 to num_slots - 1; raises UserError where that is refused
Start = Callable[[Point, int], Attempt]


class Runner:
    """Runs points in their order, at most num_slots at once, and records how each ends.

    not_started: points that were left or stopped. refusal: why, where a budget is the reason. stopped_by: the signal that ended
    the sweep early.
    """

    def __init__(
        self,
        ledger: Ledger,
        start: Start,
        num_slots: int,
        budget: Budget | None,
        lines_after: Callable[[Point], Sequence[str]] = lambda _: (),
    ) -> None:
        """lines_after: gives the lines to print after a point has ended."""
        self.not_started: list[Point] = []
        self._lines_after = lines_after
        self.refusal = self.stopped_by = ""
        self._ledger, self._start, self._budget = ledger, start, budget
        self._slots: list[Attempt | None] = [None] * num_slots
        self._is_refused = False  # by the budget, until a run ends, perhaps earlier than predicted

    def run(self, points: Sequence[Point]) -> None:
        """Runs all points to their ends. SIGINT, SIGTERM and SIGHUP end it early, with checkpoints; a second one at once."""
        waiting = list(reversed(points))
        with _interruptions() as signals:
            try:
                num_heard = 0
                while True:
                    if len(signals) > num_heard:
                        self._end_soon(is_repeated=num_heard > 0)
                        num_heard = len(signals)
                    self._collect(is_stopping=num_heard > 0)
                    while waiting and not num_heard and None in self._slots and self._may_start(waiting[-1]):
                        self._launch(waiting.pop())
                    if not any(self._slots) and (not waiting or num_heard or self.refusal):
                        break
                    time.sleep(_POLL_SECONDS)
            finally:
                for attempt in self._running:
                    attempt.kill()
        self.not_started += reversed(waiting)
        self.stopped_by = signals[0] if signals else ""

    @property
    def _running(self) -> list[Attempt]:
        return [attempt for attempt in self._slots if attempt is not None]

    def _launch(self, point: Point) -> None:
        slot = self._slots.index(None)
        say(f"point {point.name}: starts")
        started = time.monotonic()
        try:
            self._slots[slot] = self._start(point, slot)
        except (UserError, OSError) as error:  # OSError: the disk of the sweep's folder may be full, and others still run
            self._record(point, Ended(False, str(error)), time.monotonic() - started)

    def _may_start(self, point: Point) -> bool:
        """Whether the budget allows a point now; if it does not although nothing runs, nothing more starts."""
        if self._budget is None or self._is_refused:
            return self._budget is None
        points, attempts, running = self._ledger.points, self._ledger.attempts, self._running
        spent = {one.name: spent_seconds(one, attempts) for one in points}
        for attempt in running:
            so_far = attempts.seconds(attempt.point) + time.monotonic() - attempt.started
            spent[attempt.point.name] = max(spent[attempt.point.name], so_far)
        refusal = self._budget.refuses(point, spent, [attempt.point for attempt in running], points)
        self._is_refused = bool(refusal)
        if not running:
            self.refusal = refusal
        return not refusal

    def _collect(self, is_stopping: bool) -> None:
        for slot, attempt in enumerate(self._slots):
            if attempt is None or (ended := attempt.ended()) is None:
                continue
            self._slots[slot] = None
            self._is_refused = False
            if is_stopping and not ended.has_result:
                say(f"point {attempt.point.name}: stopped")
                self.not_started.append(attempt.point)
            else:
                self._record(attempt.point, ended, time.monotonic() - attempt.started)

    def _record(self, point: Point, ended: Ended, wall_seconds: float) -> None:
        if ended.has_result:
            self._ledger.record(point, "finished", wall_seconds=wall_seconds)
            top1 = read_json(point.folder / "summary.json").get("best_top1")
            say(f"point {point.name}: finished" + ("" if top1 is None else f", top-1 {top1:.2f} %") + f", {wall_seconds:.1f} s")
        else:
            self._ledger.record(point, "failed", error=ended.error, wall_seconds=wall_seconds)
            say(f"point {point.name}: failed: {ended.error}")
        for line in self._lines_after(point):
            say(line)

    def _end_soon(self, is_repeated: bool) -> None:
        running = self._running
        if running:
            say("ends the runs at once" if is_repeated else f"waits for checkpoints of {len(running)} run(s); again: at once")
        for attempt in running:
            if is_repeated:
                attempt.kill()
            else:
                attempt.stop()


@contextlib.contextmanager
def _interruptions() -> Iterator[list[str]]:
    """Collects the names of signals that ask this process to end. Signals ignored before stay ignored."""
    names: list[str] = []
    first = 0.0

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal first
        first = first or time.monotonic()
        if not names or time.monotonic() > first + _AGAIN_SECONDS:
            names.append(signal.Signals(number).name)

    caught = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    former = {number: signal.signal(number, note) for number in caught}
    try:
        yield names
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def say(line: str) -> None:
    """Prints a line at once."""
    print(line, flush=True)


def to_run(ledger: Ledger, retry: bool) -> list[Point]:
    """The points without a result; failed ones only if they are to be retried."""
    missing = [point for point in ledger.points if not is_finished(point)]
    return [point for point in missing if retry or ledger.attempts.last(point) != "failed"]
