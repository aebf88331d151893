"""Records beside a copy which of its bytes are there, so that it can go on however a process ended."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from deit_fast.data.fetch.remote import Version


@dataclass
class State:
    """`version`: of the file that is copied; `manifest`: of its manifest, None if it has none. `done`: ranges of bytes that are
    there, apart from each other and ascending. `is_checked`: all are, and they are what the manifest says. `seen`: when the
    address was last found to have this version, in seconds since 1970. `has_ranges`: the server sends parts of a file."""

    version: Version
    manifest: Version | None
    done: list[list[int]] = field(default_factory=list)
    is_checked: bool = False
    seen: float = 0.0
    has_ranges: bool = False

    @property
    def num_done(self) -> int:
        return sum(end - start for start, end in self.done)

    def gaps(self, start: int, end: int) -> list[tuple[int, int]]:
        """The ranges between start and end that are not there."""
        found = []
        for done_start, done_end in [*self.done, [end, end]]:
            if start < min(done_start, end):
                found.append((start, min(done_start, end)))
            start = max(start, done_end)
        return found

    def add(self, start: int, end: int) -> None:
        """Notes that a range is there."""
        joined: list[list[int]] = []
        for one_start, one_end in sorted([*self.done, [start, end]]):
            if joined and one_start <= joined[-1][1]:
                joined[-1][1] = max(joined[-1][1], one_end)
            else:
                joined.append([one_start, one_end])
        self.done = joined

    def save(self, path: Path) -> None:
        """Replaces the record at once."""
        trial = path.with_name(f"{path.name}.new")
        trial.write_text(json.dumps(asdict(self)), encoding="utf-8")
        os.replace(trial, path)  # noqa: PTH105


def read_state(path: Path) -> State | None:
    """The record at a path; None if there is none, or none that can be read."""
    try:
        facts = json.loads(path.read_bytes())
        manifest = facts.pop("manifest")
        return State(
            version=Version(**facts.pop("version")), manifest=None if manifest is None else Version(**manifest), **facts
        )
    except (OSError, ValueError, TypeError, KeyError):
        return None
