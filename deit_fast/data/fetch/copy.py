"""Copies one beton from an address to this machine: resumable, checked by its manifest's hashes, by one process at a time.

A copy lies in a folder of its own, whose name follows from the address: the beton, its manifest, and the record of what is
there (`State`), which alone decides whether the copy is complete. Ranges that are not there are holes in the file. Whoever
needs the copy takes the folder's lock and completes it; others wait for the lock and find it complete, or go on in the place
of one that was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from deit_fast.config import UserError
from deit_fast.data.fetch.addresses import file_name
from deit_fast.data.fetch.check import difference, header_ranges, index_range
from deit_fast.data.fetch.parallel import for_each
from deit_fast.data.fetch.progress import tell
from deit_fast.data.fetch.remote import HasChangedError, LostError, Version, open_remote
from deit_fast.data.fetch.state import State, read_state
from deit_fast.data.format.beton import manifest_path, read_manifest
from deit_fast.data.format.files import write_at

SEEN_SECONDS = 60.0  # the ranks of a node start together: one of them asks the server
_TRIES = 8  # in a row without a byte
_TOLD_TRY = 4
_FIRST_WAIT_SECONDS = 0.25  # doubled after each try
_SAVE_BYTES = 32 << 20  # a killed process copies at most so many again, for each connection
# One connection to an object store brings about 100 MB/s, whatever the network does
_CONNECTIONS = 4  # for a file
_SHARE_BYTES = 256 << 20  # of a file, for one of them
_START_BYTES = 1 << 16  # holds any beton's header
_CHANGES = 3  # of a file while it is copied, before this gives up

Note = Callable[[int], None]
_T = TypeVar("_T")


class UnreachableError(UserError):
    """The server cannot be reached, even after several tries."""


class Copy:
    """The copy of the beton at an address, in a folder within cache_dir. option: `section.name`, for errors."""

    def __init__(self, address: str, cache_dir: Path, option: str) -> None:
        self.address = address
        self._option = option
        self._folder = cache_dir / hashlib.sha256(address.encode()).hexdigest()[:16]
        self.path = self._folder / file_name(address)
        self._state_path = self._folder / "copy.json"
        self._recording = threading.Lock()

    def complete(self, note: Note = lambda num_bytes: None) -> None:
        """Returns when the copy is complete and checked; copies what is missing, and tells note the bytes of each piece.

        Raises UserError if the address cannot be read or the file there is damaged, and what note raises.
        """
        with self._locked():
            self._while_it_changes(lambda state: self._completed(state, note))

    def is_complete(self) -> bool:
        """Whether all of the copy was there and checked when it was last looked at."""
        state = read_state(self._state_path)
        return state is not None and state.is_checked and self.path.exists()

    def begin(self) -> int:
        """Compares the copy with what is at the address now; gives the bytes that are to be copied.

        They are 0 if another process is copying. Raises UserError as `complete` does.
        """
        with self._locked(wait=self.is_complete()) as is_mine:
            return self._while_it_changes(lambda state: state.version.num_bytes - state.num_done) if is_mine else 0

    def with_tables(self) -> bool:
        """Copies what `open_beton` and `read_index` read, but no images; whether that is possible.

        It is for our betons with hashes, and where the server sends ranges. Raises UserError as `complete` does.
        """
        state = read_state(self._state_path)
        if state is not None and self.path.exists() and self._has_tables(state):
            return True  # another process may be copying the images, and hold the lock for long
        with self._locked():
            return self._while_it_changes(self._with_tables)

    @contextlib.contextmanager
    def _locked(self, wait: bool = True) -> Iterator[bool]:
        """Holds the folder's lock, for which it may have to wait; without wait, whether it has got it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
            else:
                yield True

    def _while_it_changes(self, work: Callable[[State], _T]) -> _T:
        """The result of work on the state of the present version; again where the file changes meanwhile."""
        for _ in range(_CHANGES):
            try:
                return work(self._present_state())
            except HasChangedError:
                state = read_state(self._state_path)
                if state is not None:
                    state.seen = 0.0
                    state.save(self._state_path)
        raise UserError(f"{self._option}={self.address}: changes while it is copied; want a file that stays as it is")

    def _present_state(self) -> State:
        """The state of the copy of the version that is at the address now; what is there of another is removed."""
        state = read_state(self._state_path)
        if state is not None and not self.path.exists():
            state = None
        if state is not None and 0 <= time.time() - state.seen < SEEN_SECONDS:
            return state
        try:
            version, manifest, has_ranges = self._versions()
        except UnreachableError as error:
            if state is None or not state.is_checked:
                raise
            tell(f"{error}; the copy in {self._folder} is used")
            return state
        if version is None:
            raise UserError(f"{self._option}={self.address}: there is no such file; want a beton, made by `deit-fast write`")
        if state is None or (state.version, state.manifest) != (version, manifest):
            if state is not None:
                tell(f"{self.address} has changed: it is copied anew")
            state = self._begun(version, manifest)
        state.seen, state.has_ranges = time.time(), has_ranges
        state.save(self._state_path)
        return state

    def _versions(self) -> tuple[Version | None, Version | None, bool]:
        """The versions of the file at the address and of its manifest, None where there is none, and whether parts are sent."""
        remote = open_remote(self.address, self._option)
        version = self._tried(remote.version)
        return version, self._tried(open_remote(f"{self.address}.json", self._option).version), remote.has_ranges

    def _begun(self, version: Version, manifest: Version | None) -> State:
        """The state of a new copy: the manifest, and a file of one hole."""
        self._remove()  # and do not write over it: another process may have it mapped
        if manifest is not None:
            remote = open_remote(f"{self.address}.json", self._option)
            content = self._tried(lambda: b"".join(remote.stream(0, manifest.num_bytes, manifest)))
            manifest_path(self.path).write_bytes(content)
        else:
            tell(f"{self.address} has no manifest beside it: its images cannot be checked by hashes")
        with self.path.open("wb") as file:
            file.truncate(version.num_bytes)
        return State(version, manifest)

    def _remove(self) -> None:
        for path in (self._state_path, self.path, manifest_path(self.path)):
            path.unlink(missing_ok=True)

    def _completed(self, state: State, note: Note) -> None:
        if state.is_checked:
            return
        self._fill(state, 0, state.version.num_bytes, note)
        if self._versions()[:2] != (state.version, state.manifest):
            raise HasChangedError
        found = difference(self.path)
        if found:
            self._remove()
            raise UserError(
                f"{self._option}={self.address}: {found.removeprefix(f'{self.path}: ')}; the copy is removed; check the file "
                "there with `deit-fast verify`"
            )
        state.is_checked, state.seen = True, time.time()
        state.save(self._state_path)

    def _with_tables(self, state: State) -> bool:
        if state.is_checked:
            return True
        if state.manifest is None or not state.has_ranges or "digests" not in (read_manifest(self.path) or {}):
            return False
        self._fill(state, 0, min(_START_BYTES, state.version.num_bytes))
        for start, end in header_ranges(self.path, state.version.num_bytes):
            self._fill(state, start, end)
        index = index_range(self.path, state.version.num_bytes)
        if index is not None:
            self._fill(state, *index)
        return index is not None

    def _has_tables(self, state: State) -> bool:
        """Whether _with_tables would have nothing to copy, and succeed."""
        num_bytes = state.version.num_bytes
        if state.is_checked or state.gaps(0, min(_START_BYTES, num_bytes)):
            return state.is_checked
        headers = header_ranges(self.path, num_bytes)
        if not headers or any(state.gaps(*one) for one in headers):
            return False
        index = index_range(self.path, num_bytes)
        return index is not None and not state.gaps(*index)

    def _fill(self, state: State, start: int, end: int, note: Note = lambda num_bytes: None) -> None:
        """Copies what is missing between start and end; after a lost connection goes on from there."""

        def go_on(first: int, last: int) -> None:
            for gap_start, gap_end in state.gaps(first, last):
                self._fill_gap(state, gap_start, gap_end, note)

        def share(first: int) -> None:
            last = min(first + _SHARE_BYTES, end)
            self._tried(lambda: go_on(first, last), lambda: state.num_done)

        if state.has_ranges:
            for_each(share, range(start, end, _SHARE_BYTES), _CONNECTIONS)
        else:
            self._tried(lambda: go_on(start, end), lambda: state.num_done)

    def _fill_gap(self, state: State, start: int, end: int, note: Note) -> None:
        """Copies a range, and records what has come of it, however it ends."""
        pieces = open_remote(self.address, self._option).stream(start, end, state.version)
        recorded = at = start
        with self.path.open("r+b", buffering=0) as file:
            try:
                for piece in pieces:
                    write_at(file.fileno(), piece, at)
                    at += len(piece)
                    note(len(piece))
                    if at - recorded >= _SAVE_BYTES:
                        self._record(state, file.fileno(), recorded, at)
                        recorded = at
            finally:
                if at > recorded:
                    self._record(state, file.fileno(), recorded, at)

    def _record(self, state: State, file: int, start: int, end: int) -> None:
        os.fdatasync(file)  # what the record says is there must outlive the machine's end, too
        with self._recording:
            state.add(start, end)
            state.save(self._state_path)

    def _tried(self, work: Callable[[], _T], progress: Callable[[], int] = lambda: 0) -> _T:
        """The result of work, which is done again after a connection is lost; up to _TRIES times in a row without progress."""
        num_tries, reached = 0, progress()
        while True:
            try:
                return work()
            except LostError as error:
                num_tries = 1 if progress() > reached else num_tries + 1
                reached = progress()
                if num_tries == _TOLD_TRY:
                    tell(f"{self.address}: {error}; tries again")
                if num_tries == _TRIES:
                    raise UnreachableError(
                        f"{self._option}={self.address}: cannot be read: {error}; what is copied stays, and the same command "
                        "goes on from there"
                    ) from error
                time.sleep(_FIRST_WAIT_SECONDS * 2 ** (num_tries - 1))
