"""Takes events, gives a log of one JSON object a line that a killed process leaves readable."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from deit_fast.config import UserError


class EventLog:
    """Appends events to a file, one line each, handed to the operating system at once.

    What was written survives a killed process, though not a machine that loses power. A line that a killed process left
    cut is taken away before anything is appended, so that every line of the file stays a whole event.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if self.path.exists():
            _mend_end(self.path)
        self._file = self.path.open("a", encoding="utf-8")

    def write(self, event: str, **fields: Any) -> None:
        """Appends `event` with its fields and the time in Unix seconds. Numbers that are not finite become null."""
        line = json.dumps(as_json({"event": event, "time": time.time(), **fields}), allow_nan=False)
        self._file.write(line + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file; a second time does nothing."""
        self._file.close()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()


def read_events(path: Path | str) -> list[dict[str, Any]]:
    """Events of a log in the order of writing; a last line that was cut is left out.

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
    """The same value in what JSON has: tuples as lists, paths as text, NumPy and torch scalars as numbers.

    Numbers that are not finite become None, since JSON has none of them. Raises TypeError for anything else.
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


def _event(line: bytes) -> dict[str, Any] | None:
    """The event in a line, or None where there is none."""
    try:
        event = json.loads(line)
    except ValueError:  # bytes that are not UTF-8 as well
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def _mend_end(path: Path) -> None:
    """Ends the last line where only its end is missing, and takes it away where it was cut earlier."""
    with path.open("r+b") as file:
        text = file.read()
        start = text.rfind(b"\n") + 1
        if start == len(text):
            return
        if _event(text[start:]) is not None:
            file.write(b"\n")
        else:
            file.truncate(start)
