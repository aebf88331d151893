"""Counts what a loader's thread spends its time on, and how full its queue is when the trainer takes a batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

# What the thread does, in the order of a batch: waits for files that are being copied here; waits for the device, which still
# copies from the memory for the batch, or tells which images it could not decode; decodes, augments and finishes (normalises,
# erases, mixes, or sends to the device); waits for a place in the queue, because the trainer is slower
STAGES = ("files", "device", "decode", "augment", "finish", "queue")


@dataclass(frozen=True)
class Activity:
    """What a loader did in some time.

    seconds: of its thread, by STAGES. num_batches: taken from the queue, num_empty: of these, those for which the trainer found
    it empty. filled: sum over batches of the share of the queue that was full.
    """

    seconds: Mapping[str, float]
    num_batches: int
    num_empty: int
    filled: float

    def since(self, earlier: Activity) -> Activity:
        """What was done after an earlier activity of the same loader ended."""
        return Activity(
            {stage: self.seconds[stage] - earlier.seconds[stage] for stage in STAGES},
            self.num_batches - earlier.num_batches,
            self.num_empty - earlier.num_empty,
            self.filled - earlier.filled,
        )

    @property
    def filled_share(self) -> float:
        """Mean share of the queue that was full, 0 to 1, when a batch was taken; 0 without batches."""
        return self.filled / max(1, self.num_batches)

    @property
    def slowest(self) -> tuple[str, float]:
        """The stage that took longest of those that do not wait for the trainer, and its share of their time, 0 to 1."""
        working = {stage: seconds for stage, seconds in self.seconds.items() if stage != "queue"}
        stage = max(working, key=lambda one: working[one])
        return stage, working[stage] / max(sum(working.values()), 1e-9)

    @property
    def empty_share(self) -> float:
        """Share of the batches for which the trainer found the queue empty, 0 to 1: the first of an epoch is one as a rule."""
        return self.num_empty / max(1, self.num_batches)


NOTHING = Activity(dict.fromkeys(STAGES, 0.0), 0, 0, 0.0)


class ActivityMeter:
    """Adds up a loader's activity. Its thread charges seconds, and the trainer's counts batches.

    One clock is read for each stage of a batch.
    """

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._seconds = dict.fromkeys(STAGES, 0.0)
        self._last = now()
        self._num_batches = self._num_empty = 0
        self._filled = 0.0

    def begin(self) -> None:
        """The thread starts: the time before counts for no stage."""
        self._last = self._now()

    def charge(self, stage: str) -> None:
        """A stage ends: the time since the one before it is its own."""
        now = self._now()
        self._seconds[stage] += now - self._last
        self._last = now

    def count(self, num_waiting: int, capacity: int) -> None:
        """The trainer takes a batch from a queue of this capacity, in which so many wait."""
        self._num_batches += 1
        self._num_empty += num_waiting == 0
        self._filled += num_waiting / capacity

    def total(self) -> Activity:
        """The activity so far."""
        return Activity(dict(self._seconds), self._num_batches, self._num_empty, self._filled)
