"""Tells the kernel which ranges of mapped files to read ahead, and which to drop from memory.

So memory holds only the part of large files that is in use, the beginning of the next steps and the end of the last ones, and
no image has to be waited for. All of this is advice: a range that was dropped too early, or not requested, is read when it is
touched.

On Linux, asking does not wait for the disk, but takes 0.2 ms for each MB that is not in memory (0.02 ms where it is), and
giving back as much: about 15 ms for 341 photographs. Hence the thread, one for all files. To drop pages takes an open file:
each is opened for that moment alone, since a set may have more files than a process may hold open.
"""

from __future__ import annotations

import bisect
import contextlib
import mmap
import os
import queue
import threading
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from deit_fast.data.format.beton_set import Stretch
from deit_fast.data.format.mapped import advise
from deit_fast.data.load.page_order import ReadSchedule

STEPS_AHEAD = 4
STEPS_BEHIND = 4

# Linux cuts each request to the device's readahead, 128 KiB unless set otherwise, without a word: 8 MB of 16 MB were read
# where it was set to 8 MB
_PIECE_BYTES = 128 << 10


class ReadAhead:
    """Keeps a window of mapped files in memory, by a schedule. Call `advance` before each step, `close` at the end.

    stretches: the files on their line, to whose positions the schedule refers; memories: the whole file of each, mapped for
    reading. Each process asks for itself and unmaps for itself, and the pages of a range leave memory with the last process of
    the machine that unmaps them. steps_behind is how far that other process may be behind without reading anything twice.
    Where the platform lacks the calls, nothing happens.
    """

    def __init__(
        self,
        stretches: Sequence[Stretch],
        memories: Sequence[NDArray[np.uint8]],
        schedule: ReadSchedule,
        *,
        steps_ahead: int = STEPS_AHEAD,
        steps_behind: int = STEPS_BEHIND,
    ) -> None:
        assert (np.diff(schedule.first_steps) >= 0).all()
        self._stretches, self._memories = stretches, memories
        self._first_bytes = [stretch.start for stretch in stretches]
        self._schedule = schedule
        # rounded outwards to the machine's pages, which may be larger than the schedule's
        self._first_pages = (schedule.starts // mmap.PAGESIZE).tolist()
        self._end_pages = (-(-schedule.ends // mmap.PAGESIZE)).tolist()
        self._by_last_step = np.argsort(schedule.last_steps, kind="stable").tolist()
        self._num_asked = self._num_given_back = 0
        self._steps_ahead, self._steps_behind = steps_ahead, steps_behind
        self._is_closed = False
        # Ranges in use that begin or end with a page: neighbours share pages, and one that is done must leave the other's
        self._edges: Counter[int] = Counter()
        # Of files that are shown several times: the ranges in use that each page belongs to
        counts = Counter(stretch.path for stretch in stretches)
        self._uses = {
            stretch.path: np.zeros(-(-len(memory) // mmap.PAGESIZE), np.uint16)
            for stretch, memory in zip(stretches, memories, strict=True)
            if counts[stretch.path] > 1
        }
        self._steps: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None

    def advance(self, step: int) -> None:
        """Prepares for step `step`. Returns at once, except the first time. Raises the error of an earlier call, if any."""
        if self._error is not None:
            raise self._error
        if self._thread is None:
            # nothing was asked for yet: images would be read singly, with whatever the kernel reads around them
            self._move_to(step)
            self._thread = threading.Thread(target=self._run, name="deit_fast-readahead", daemon=True)
            self._thread.start()
        else:
            self._steps.put(step)

    def close(self) -> None:
        """Drop all files from memory, and end the thread. A second call does nothing.

        This also drops extra pages: if a page is not in memory when it is touched, because the kernel needed its place or has
        not read it yet, the kernel reads all of the device's readahead around it.
        """
        if self._is_closed:
            return
        if self._thread is not None:
            self._steps.put(None)
            self._thread.join()
        for place, memory in enumerate(self._memories):
            self._let_go(place, 0, len(memory))
        self._is_closed = True

    def _run(self) -> None:
        try:
            while (step := self._steps.get()) is not None:
                self._move_to(step)
        except BaseException as error:
            self._error = error

    def _move_to(self, step: int) -> None:
        until = int(np.searchsorted(self._schedule.first_steps, step + self._steps_ahead, side="right"))
        for number in range(self._num_asked, until):
            self._ask_for(number)
        self._num_asked = max(self._num_asked, until)
        last_steps = self._schedule.last_steps
        while self._num_given_back < self._num_asked:
            number = self._by_last_step[self._num_given_back]
            if last_steps[number] >= step - self._steps_behind:
                break
            self._give_back(number)
            self._num_given_back += 1

    def _ask_for(self, number: int) -> None:
        first, end = self._first_pages[number], self._end_pages[number]
        place, start = self._located(first)
        uses, memory = self._uses.get(self._stretches[place].path), self._memories[place]
        if uses is None:
            self._edges.update((first, end - 1))
        else:
            uses[start // mmap.PAGESIZE :][: end - first] += 1
        for piece in range(start, min(start + (end - first) * mmap.PAGESIZE, len(memory)), _PIECE_BYTES):
            if hasattr(mmap, "MADV_WILLNEED"):
                advise(memory, mmap.MADV_WILLNEED, piece, min(_PIECE_BYTES, start + (end - first) * mmap.PAGESIZE - piece))

    def _give_back(self, number: int) -> None:
        for first, end in self._done_with(self._first_pages[number], self._end_pages[number]):
            place, start = self._located(first)
            self._let_go(place, start, (end - first) * mmap.PAGESIZE)

    def _located(self, page: int) -> tuple[int, int]:
        """The place of the stretch that a page of the line lies in, and where the page begins in that file, in bytes."""
        start = page * mmap.PAGESIZE
        place = bisect.bisect_right(self._first_bytes, start) - 1
        return place, start - self._first_bytes[place]

    def _done_with(self, first: int, end: int) -> Iterator[tuple[int, int]]:
        """Those pages of a range in use that no other range uses: runs from a first page up to an end."""
        place, start = self._located(first)
        uses = self._uses.get(self._stretches[place].path)
        if uses is not None:
            own = uses[start // mmap.PAGESIZE :][: end - first]
            own -= 1
            steps = np.flatnonzero(np.diff(np.concatenate(([0], own == 0, [0]))))
            yield from ((first + begin, first + stop) for begin, stop in steps.reshape(-1, 2).tolist())
            return
        self._edges.subtract((first, end - 1))
        first_is_used, last_is_used = self._edges[first] > 0, self._edges[end - 1] > 0
        for page in (first, end - 1):
            if self._edges[page] == 0:
                del self._edges[page]
        if first + first_is_used < end - last_is_used:
            yield first + first_is_used, end - last_is_used

    def _let_go(self, place: int, start: int, num_bytes: int) -> None:
        if hasattr(mmap, "MADV_DONTNEED"):
            advise(self._memories[place], mmap.MADV_DONTNEED, start, num_bytes)
        if hasattr(os, "posix_fadvise"):
            with contextlib.suppress(FileNotFoundError):  # of a file that was deleted or moved, nothing can be dropped
                descriptor = os.open(self._stretches[place].path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.posix_fadvise(descriptor, start, num_bytes, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(descriptor)
