"""Writes a log with one JSON object per line, which stays readable when its process is killed."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import sys
import time
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import Any

from deit_fast.config import UserError
from deit_fast.output import droppable_output


class EventLog:
    """Appends events to a file, one line each, handed to the operating system at once.

    What was written survives a killed process, though not a machine that loses power. An incomplete line, left by a killed
    process, is removed before anything is appended, so that every line of the file stays a whole event.

    A run survives a full disk: events that cannot be written wait in memory, in order, until writing works again. A line on
    stderr says so once, and an incomplete line is removed from the file. A file that cannot be opened is an error.

    The file is locked as long as it is open, on file systems that have locks; the lock ends with the process.
    """

    def __init__(self, path: Path | str) -> None:
        """Raises OSError for a file that cannot be opened, and BlockingIOError for one that another process writes."""
        self.path = Path(path)
        self._file = self.path.open("ab", buffering=0)  # no buffer: what write() took is with the operating system
        try:
            _lock(self._file.fileno())
            _mend_end(self.path)
        except OSError:
            self._file.close()
            raise
        self._waiting: deque[bytes] = deque()
        self._cut_at: int | None = None  # where an incomplete line begins that could not be removed

    def write(self, event: str, **fields: Any) -> None:
        """Appends `event` with its fields and the time in Unix seconds. Numbers that are not finite become null."""
        line = json.dumps(as_json({"event": event, "time": time.time(), **fields}), allow_nan=False)
        was_writing = not self._waiting
        self._waiting.append(line.encode() + b"\n")
        error = self._write_waiting()
        if error is not None and was_writing:
            _say(f"{self.path}: cannot be written ({error.strerror}); events wait in memory until it can")

    def close(self) -> None:
        """Tries a last time to write what waits, and closes the file; a second call does nothing."""
        if self._file.closed:
            return
        error = self._write_waiting()
        try:
            self._file.close()
        except OSError as late:  # a file server may say only now that its disk is full
            error = error or late
        if error is not None:
            _say(f"{self.path}: cannot be written ({error.strerror}); its last {len(self._waiting)} event(s) are lost")

    def _write_waiting(self) -> OSError | None:
        """Writes the events that wait, oldest first; gives the error that stopped it."""
        try:
            while self._waiting:
                self._append(self._waiting[0])
                self._waiting.popleft()
        except OSError as error:
            return error
        return None

    def _append(self, line: bytes) -> None:
        """Appends a whole line; if that fails, removes what was written of it and raises OSError."""
        if self._cut_at is not None:
            self._file.truncate(self._cut_at)
        self._cut_at = os.fstat(self._file.fileno()).st_size
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            self._file.truncate(self._cut_at)
            self._cut_at = None
            raise
        self._cut_at = None

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


def read_events(path: Path | str) -> list[dict[str, Any]]:
    """Events of a log in the order of writing, without an incomplete last line.

    Raises UserError for a log that cannot be read and for any other broken line, with its number.
    """
    try:
        lines = Path(path).read_bytes().split(b"\n")
    except OSError as error:
        raise UserError(f"{path}: no log that can be read ({error.strerror})") from None
    events = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        event = _event(line)
        if event is not None:
            events.append(event)
        elif number < len(lines):
            raise UserError(f"{path}: line {number} is broken: want a JSON object with an event; mend or delete it")
    return events


def as_json(value: Any) -> Any:
    """The value in types of JSON: tuples as lists, paths as text, NumPy and torch scalars as numbers.

    Numbers that are not finite, which JSON lacks, become None. Raises TypeError for anything else.
    """
    if isinstance(value, dict):
        return {str(key): as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, float):  # NumPy's float64 as well
        return float(value) if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):  # bool is an int
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "item"):
        return as_json(value.item())
    raise TypeError(f"{type(value).__name__} {value!r} has no form in JSON")


@droppable_output()
def _say(message: str) -> None:
    print(f"deit-fast: {message}", file=sys.stderr, flush=True)


def _event(line: bytes) -> dict[str, Any] | None:
    """The event in a line, or None where there is none."""
    try:
        event = json.loads(line)
    except ValueError:  # bytes that are not UTF-8 as well
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def _lock(file: int) -> None:
    """Locks a file; does nothing on a file system without locks. Raises BlockingIOError if another process holds the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
            raise BlockingIOError(error.errno, "another process writes it") from None


def _mend_end(path: Path) -> None:
    """Adds the newline that a whole last line lacks, or removes an incomplete last line."""
    with path.open("r+b") as file:
        text = file.read()
        start = text.rfind(b"\n") + 1
        if start == len(text):
            return
        if _event(text[start:]) is not None:
            file.write(b"\n")
        else:
            file.truncate(start)
