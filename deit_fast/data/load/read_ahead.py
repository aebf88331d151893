"""Tells the kernel which ranges of a file to read ahead, and which to drop from memory.

So memory holds only the part of a large file that is in use, the beginning of the next steps and the end of the last ones, and
no image has to be waited for. All of this is advice: a range that was dropped too early, or not requested, is read when it is
touched.

On Linux, asking does not wait for the disk, but takes 0.2 ms for each MB that is not in memory (0.02 ms where it is), and
giving back as much: about 15 ms for 341 photographs. Hence the thread.
"""

from __future__ import annotations

import mmap
import os
import queue
import threading
from collections import Counter
from pathlib import Path

import numpy as np

from deit_fast.data.load.page_order import ReadSchedule

STEPS_AHEAD = 4
STEPS_BEHIND = 4

# Linux cuts each request to the device's readahead, 128 KiB unless set otherwise, without a word: 8 MB of 16 MB were read
# where it was set to 8 MB
_PIECE_BYTES = 128 << 10


class ReadAhead:
    """Keeps a window of a mapped file in memory, by a schedule. Call `advance` before each step, `close` at the end.

    mapped: the whole file at `path`, mapped for reading. Each process asks for itself and unmaps for itself, and the pages
    of a range leave memory with the last process of the machine that unmaps them. steps_behind is how far that other
    process may be behind without reading anything twice. Where the platform lacks the calls, nothing happens.
    """

    def __init__(
        self,
        path: Path,
        mapped: np.memmap,
        schedule: ReadSchedule,
        *,
        steps_ahead: int = STEPS_AHEAD,
        steps_behind: int = STEPS_BEHIND,
    ) -> None:
        assert mapped.offset == 0
        assert (np.diff(schedule.first_steps) >= 0).all()
        self._schedule = schedule
        # rounded outwards to the machine's pages, which may be larger than the schedule's
        self._first_pages = (schedule.starts // mmap.PAGESIZE).tolist()
        self._end_pages = (-(-schedule.ends // mmap.PAGESIZE)).tolist()
        self._by_last_step = np.argsort(schedule.last_steps, kind="stable").tolist()
        self._num_asked = self._num_given_back = 0
        self._steps_ahead, self._steps_behind = steps_ahead, steps_behind
        self._map: mmap.mmap = mapped._mmap  # type: ignore[attr-defined]  # NumPy's documentation names it
        self._file = os.open(path, os.O_RDONLY)
        # Ranges in use that begin or end with a page: neighbours share pages, and one that is done must leave the other's
        self._edges: Counter[int] = Counter()
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
        """Drop the whole file from memory, and end the thread. A second call does nothing.

        This also drops extra pages: if a page is not in memory when it is touched, because the kernel needed its place or has
        not read it yet, the kernel reads all of the device's readahead around it.
        """
        if self._file < 0:
            return
        if self._thread is not None:
            self._steps.put(None)
            self._thread.join()
        self._let_go(0, len(self._map))
        os.close(self._file)
        self._file = -1

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
        self._edges.update((first, end - 1))
        for start in range(first * mmap.PAGESIZE, end * mmap.PAGESIZE, _PIECE_BYTES):
            length = min(_PIECE_BYTES, end * mmap.PAGESIZE - start)
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(self._file, start, length, os.POSIX_FADV_WILLNEED)
            elif hasattr(self._map, "madvise") and start < len(self._map):
                self._map.madvise(mmap.MADV_WILLNEED, start, length)

    def _give_back(self, number: int) -> None:
        first, end = self._first_pages[number], self._end_pages[number]
        self._edges.subtract((first, end - 1))
        first_is_used, last_is_used = self._edges[first] > 0, self._edges[end - 1] > 0
        for page in (first, end - 1):
            if self._edges[page] == 0:
                del self._edges[page]
        start = (first + first_is_used) * mmap.PAGESIZE
        length = (end - last_is_used) * mmap.PAGESIZE - start
        if length > 0:
            self._let_go(start, length)

    def _let_go(self, start: int, length: int) -> None:
        if hasattr(self._map, "madvise"):
            self._map.madvise(mmap.MADV_DONTNEED, start, length)
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file, start, length, os.POSIX_FADV_DONTNEED)
