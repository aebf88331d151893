"""Records in the folder of a sweep which of its points are finished, failed or missing.

DIR/sweep.json describes the sweep, DIR/points.jsonl the end of each attempt at a point, DIR/POINT is the folder of a run,
DIR/POINT.yaml its configuration, DIR/POINT.log and DIR/POINT.err its output.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import socket
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import psutil

from deit_fast.config import RunConfig, UserError, in_words, value_now
from deit_fast.record.log import EventLog, as_json, read_events
from deit_fast.record.run import read_json, write_bytes, write_json
from deit_fast.sweep.options import TRAINING, configuration, value_of
from deit_fast.sweep.points import Point, as_file

SWEEP, POINTS, LOCK = "sweep.json", "points.jsonl", "sweep.lock"
_WAIT_SECONDS = 60.0  # for processes to end whose sweep was killed

Status = Literal["finished", "failed"]


class Attempts:
    """The ended attempts in points.jsonl, by their points."""

    def __init__(self) -> None:
        self._events: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)

    def add(self, event: dict[str, Any]) -> None:
        """Adds an attempt that ended."""
        self._events[str(event.get("point"))].append(event)

    def last(self, point: Point) -> str | None:
        """End of the last attempt at a point; None: there was none."""
        attempts = self._events[point.name]
        return attempts[-1].get("status") if attempts else None

    def seconds(self, point: Point) -> float:
        """Seconds that the attempts at a point took, as far as the sweep saw them."""
        return sum(event.get("wall_seconds") or 0.0 for event in self._events[point.name])


@dataclass(frozen=True)
class Ledger:
    """The folder of a sweep, locked against other sweeps.

    lock_file: the descriptor that holds the lock. A process that inherits it holds the lock too, as long as it lives.
    """

    folder: Path
    points: Sequence[Point]
    attempts: Attempts
    lock_file: int
    log: EventLog

    def write_config(self, point: Point) -> Path:
        """Writes the configuration of a point's run as a file for --config-file; gives its path."""
        path = self.folder / f"{point.name}.yaml"
        write_bytes(path, as_file(point).encode())
        return path

    def record(self, point: Point, status: Status, **more: Any) -> None:
        """Adds the end of an attempt. more: error; wall_seconds, how long it took, seen from outside."""
        fields = {"point": point.name, "options": point.options, "status": status, **more}
        self.log.write("point", **fields)
        self.attempts.add(fields)


@contextlib.contextmanager
def open_ledger(folder: Path, name: str, varied: Sequence[str], points: Sequence[Point]) -> Iterator[Ledger]:
    """Makes the folder of a sweep, or continues in it.

    Raises UserError if the folder is not this sweep's, or another sweep is running in it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock_file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise UserError(f"sweep.dir={folder}: cannot be written ({error.strerror}); choose another --sweep.dir") from None
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, lock_file)
        _lock(lock_file, folder)
        check_same_sweep(folder, points)  # another sweep may have run since this one's own check
        log = stack.enter_context(EventLog(folder / POINTS))
        described = {
            "name": name,
            "options": varied,
            "num_points": len(points),
            "points": {point.name: point.options for point in points},
            "shared": _shared(points),
        }
        write_json(folder / SWEEP, described)
        ledger = Ledger(folder, points, read_attempts(folder), lock_file, log)
        for point in points:  # finished after the sweep had been killed, which could not record it
            if is_finished(point) and ledger.attempts.last(point) != "finished":
                ledger.record(point, "finished")
        yield ledger


def read_attempts(folder: Path) -> Attempts:
    """The attempts at points so far; none where there is no such folder yet. Raises UserError for a broken line."""
    attempts = Attempts()
    path = folder / POINTS
    for event in read_events(path) if path.is_file() else []:
        if event["event"] == "point":
            attempts.add(event)
    return attempts


def is_finished(point: Point) -> bool:
    """Whether a point's run has finished."""
    return (point.folder / "summary.json").is_file()


def check_same_sweep(folder: Path, points: Sequence[Point]) -> None:
    """Raises UserError if a folder holds anything but these points or some of them."""

    def refusal(why: str) -> UserError:
        return UserError(f"sweep.dir={folder}: {why}; choose another --sweep.dir")

    if (folder / "run.json").exists():
        raise refusal("holds a run")
    if folder.exists() and not folder.is_dir():
        raise refusal("is not a folder")
    if not (folder / SWEEP).exists():
        return
    had = read_json(folder / SWEEP)
    shared, defaults = _in_words(had.get("shared")), {option: as_json(value_of(RunConfig(), option)) for option in TRAINING}
    ours = {point.name: point for point in points}
    for name, options in (had.get("points") or {}).items():
        if name not in ours:
            raise refusal(f"the sweep there was another: point {name} is gone from it; points may only be added")
        had_all, now = shared | _in_words(options), configuration(ours[name].config)
        for option in sorted({*had_all, *now}):
            default = defaults.get(option)
            before, after = had_all.get(option, default), now.get(option, default)
            may_change = option.startswith(("run.", "slurm."))  # where it runs and at what price identifies no sweep
            if before != after and not may_change:
                was, is_now = ("its default" if value == default else json.dumps(value) for value in (before, after))
                raise refusal(f"the sweep there was another: {option} was {was}, and is {is_now}; points may only be added")


def _in_words(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Options of sweep.json, with the words that this version has for values."""
    return {option: in_words(option, value_now(option, value)) for option, value in (options or {}).items()}


def _shared(points: Sequence[Point]) -> dict[str, Any]:
    """The options that points share because they do not set them themselves."""
    shared: dict[str, Any] = {}
    for point in points:
        shared |= {name: value for name, value in configuration(point.config).items() if name not in point.options}
    return {name: value for name, value in shared.items() if name != "run.dir"}


def _lock(file: int, folder: Path) -> None:
    """Locks a file and writes the holder into it. Does nothing on file systems without locks.

    Raises UserError if another sweep holds the lock, or processes of a killed sweep do not release it."""
    deadline = time.monotonic() + _WAIT_SECONDS
    is_said = False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            holder = os.pread(file, 1000, 0).decode(errors="replace").strip()
            if _may_live(holder) or time.monotonic() > deadline:
                raise UserError(
                    f"sweep.dir={folder}: another sweep ({holder or 'of an unknown process'}), or a run that it left, is still "
                    "running in it; wait for its end, or choose another --sweep.dir"
                ) from None
        except OSError:
            break
        if not is_said:
            print("waits for the end of runs that a killed sweep left behind", flush=True)
            is_said = True
        time.sleep(0.1)
    os.ftruncate(file, 0)
    os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0)


def _may_live(holder: str) -> bool:
    """Whether the process that a lock file names may still run."""
    ours = re.fullmatch(rf"process (\d+) on {re.escape(socket.gethostname())}", holder)
    return ours is None or psutil.pid_exists(int(ours[1]))
