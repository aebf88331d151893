"""Runs the points of a sweep, several at once, none twice, until all end or the sweep is told to stop."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Protocol

from deit_fast.config import UserError
from deit_fast.record.run import read_json
from deit_fast.sweep.costs import Budget, spent_seconds
from deit_fast.sweep.here import Ended
from deit_fast.sweep.ledger import Ledger, is_finished
from deit_fast.sweep.points import Point

_POLL_SECONDS = 0.1


class Attempt(Protocol):
    """An attempt to train a point, as a process or as a job."""

    point: Point
    started: float  # on the scale of time.monotonic

    def ended(self) -> Ended | None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


# starts an attempt in a place, from 0 to the number of places less one; raises UserError where that is refused
Start = Callable[[Point, int], Attempt]


@dataclass
class Outcome:
    """Results of the points that were to run."""

    finished: list[Point] = field(default_factory=list)
    failed: list[Point] = field(default_factory=list)
    not_started: list[Point] = field(default_factory=list)
    refusal: str = ""  # why the rest was not started, where a budget is the reason
    stopped_by: str = ""  # the signal that ended the sweep early


class Runner:
    """Runs points in their order in a number of places, and records how each ends."""

    def __init__(self, ledger: Ledger, start: Start, num_places: int, budget: Budget | None) -> None:
        self._ledger, self._start, self._budget = ledger, start, budget
        self._places: list[Attempt | None] = [None] * num_places
        self._outcome = Outcome()
        self._is_refused = False  # by the budget, until a run ends, perhaps earlier than predicted

    def run(self, points: Sequence[Point]) -> Outcome:
        """Runs all points to their ends. SIGINT, SIGTERM and SIGHUP end it early, with checkpoints; a second one at once."""
        waiting = list(reversed(points))
        with Interruption() as interruption:
            try:
                num_heard = 0
                while True:
                    if interruption.count > num_heard:
                        self._end_soon(is_repeated=num_heard > 0)
                        num_heard = interruption.count
                    self._collect(is_stopping=num_heard > 0)
                    while waiting and not num_heard and None in self._places and self._may_start(waiting[-1]):
                        self._launch(waiting.pop())
                    if not any(self._places) and (not waiting or num_heard or self._outcome.refusal):
                        break
                    time.sleep(_POLL_SECONDS)
            finally:
                for attempt in filter(None, self._places):
                    attempt.kill()
        self._outcome.not_started += reversed(waiting)
        self._outcome.stopped_by = interruption.name
        return self._outcome

    def _launch(self, point: Point) -> None:
        place = self._places.index(None)
        say(f"point {point.name}: starts")
        started = time.monotonic()
        try:
            self._places[place] = self._start(point, place)
        except (UserError, OSError) as error:  # OSError: the disk of the sweep's folder may be full, and others still run
            self._note(point, Ended(False, str(error)), time.monotonic() - started)

    def _may_start(self, point: Point) -> bool:
        """Whether the budget allows a point now; if it does not although nothing runs, nothing more starts."""
        if self._budget is None or self._is_refused:
            return self._budget is None
        running = [attempt for attempt in self._places if attempt is not None]
        points = self._ledger.points
        spent = {one.name: spent_seconds(one, self._ledger.attempts) for one in points}
        for attempt in running:
            earlier = self._ledger.attempts.seconds(attempt.point)
            spent[attempt.point.name] = max(spent[attempt.point.name], earlier + time.monotonic() - attempt.started)
        refusal = self._budget.refuses(point, spent, [attempt.point for attempt in running], points)
        self._is_refused = bool(refusal)
        if not running:
            self._outcome.refusal = refusal
        return not refusal

    def _collect(self, is_stopping: bool) -> None:
        for place, attempt in enumerate(self._places):
            if attempt is None:
                continue
            ended = attempt.ended()
            if ended is None:
                continue
            self._places[place] = None
            self._is_refused = False
            if is_stopping and not ended.has_result:
                say(f"point {attempt.point.name}: stopped")
                self._outcome.not_started.append(attempt.point)
            else:
                self._note(attempt.point, ended, time.monotonic() - attempt.started)

    def _note(self, point: Point, ended: Ended, wall_seconds: float) -> None:
        if ended.has_result:
            self._ledger.record(point, "finished", wall_seconds=wall_seconds)
            self._outcome.finished.append(point)
            top1 = read_json(point.folder / "summary.json").get("best_top1")
            say(f"point {point.name}: finished" + ("" if top1 is None else f", top-1 {top1:.2f} %") + f", {wall_seconds:.1f} s")
        else:
            self._ledger.record(point, "failed", error=ended.error, wall_seconds=wall_seconds)
            self._outcome.failed.append(point)
            say(f"point {point.name}: failed: {ended.error}")

    def _end_soon(self, is_repeated: bool) -> None:
        running = [attempt for attempt in self._places if attempt is not None]
        if running:
            say("ends the runs at once" if is_repeated else f"waits for checkpoints of {len(running)} run(s); again: at once")
        for attempt in running:
            if is_repeated:
                attempt.kill()
            else:
                attempt.stop()


class Interruption:
    """Counts, inside its `with` block, the signals that ask this process to end. Signals ignored before stay ignored.

    Those within a second of the first count as one, since a process may be sent several at once.
    """

    _SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    _AGAIN_SECONDS = 1.0

    def __init__(self) -> None:
        self.count = 0
        self.name = ""  # of the first of them
        self._first = 0.0  # when that came
        self._former: dict[signal.Signals, object] = {}

    def __enter__(self) -> Interruption:
        for number in self._SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                self._former[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if not self.count:
            self.name, self._first = signal.Signals(number).name, time.monotonic()
        if not self.count or time.monotonic() > self._first + self._AGAIN_SECONDS:
            self.count += 1


def say(line: str) -> None:
    """Prints a line at once."""
    print(line, flush=True)


def to_run(ledger: Ledger, retry: bool) -> list[Point]:
    """The points without a result; failed ones only if they are to be retried."""
    missing = [point for point in ledger.points if not is_finished(point)]
    return [point for point in missing if retry or ledger.attempts.last(point) != "failed"]
