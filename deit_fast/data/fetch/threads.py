"""Completes copies in several threads, the first ones first."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence

from deit_fast.data.fetch.copy import Copy
from deit_fast.data.fetch.progress import tell

_NUM_THREADS = 4
_POLL_SECONDS = 0.05
_TOLD_SECONDS = 2.0


class StoppedError(Exception):
    """The copies are not wanted any more."""


class CopyThreads:
    """Threads that complete copies, in their order, once they are started.

    note: is told the bytes of each piece that is copied. The threads end with the process, and what they have recorded stays.
    Each process of a node may have its own: whichever finds a copy's lock free goes on with it.
    """

    def __init__(self, copies: Sequence[Copy], note: Callable[[int], None] = lambda num_bytes: None) -> None:
        self._missing = {copy.path: copy for copy in copies}
        self._waiting: Iterator[Copy] = iter(list(self._missing.values()))
        self._note = note
        self._lock = threading.Lock()
        self._is_stopped = self._has_started = False
        self._error: BaseException | None = None

    def start(self) -> None:
        """Starts the threads; a second call does nothing."""
        if not self._has_started:
            self._has_started = True
            for number in range(min(_NUM_THREADS, len(self._missing))):
                threading.Thread(target=self._run, name=f"deit_fast-copies-{number}", daemon=True).start()

    def stop(self) -> None:
        """Lets the threads end with the piece in hand."""
        self._is_stopped = True

    def wait(self, copies: Collection[Copy], is_stopped: Callable[[], bool] = lambda: False, *, told: bool = False) -> None:
        """Returns when these copies are complete, or is_stopped says so. Raises the error of `Copy.complete`, if one was met.

        told: the user knows that this takes long.
        """
        begun = time.monotonic()
        while (missing := [copy for copy in copies if copy.path in self._missing]) and not is_stopped():
            if self._error is not None:
                raise self._error
            if not told and time.monotonic() - begun > _TOLD_SECONDS:
                tell(f"training waits for {missing[0].address}")
                told = True
            time.sleep(_POLL_SECONDS)

    def _run(self) -> None:
        try:
            while True:
                with self._lock:
                    copy = next(self._waiting, None)
                if copy is None:
                    return
                copy.complete(self._copied)
                del self._missing[copy.path]
        except StoppedError:
            pass
        except BaseException as error:
            self._error = self._error or error
            self.stop()

    def _copied(self, num_bytes: int) -> None:
        if self._is_stopped:
            raise StoppedError
        self._note(num_bytes)
