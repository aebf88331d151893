"""The files of a conversion in progress, which can be resumed and become the beton at the end."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from ffcv.types import ALLOC_TABLE_TYPE

from deit_fast.config import UserError, in_words
from deit_fast.data.convert.parts import PartsFile
from deit_fast.data.convert.workers import map_unordered
from deit_fast.data.format import layout
from deit_fast.data.format.beton import manifest_path
from deit_fast.data.format.files import read_at, sync, write_at, write_pieces_at, write_text
from deit_fast.data.format.manifest import Totals
from deit_fast.data.format.part import Part
from deit_fast.ending import ending_of

_LOCK_SECONDS = 10.0  # the workers of a killed conversion hold the lock until the kernel has ended them


class PartialBeton:
    """OUT.partial, which holds the images of the parts in OUT.partial.parts and becomes OUT.

    Starts anew, or with `resume` where an earlier conversion ended. Raises UserError if that one had other settings or another
    source, if another process is writing the file, or if the file exists without `resume`. `published`: the manifest, if the
    conversion to resume had already finished, else None. how_to_resume: what goes on with it, for the line that says so.
    """

    def __init__(
        self,
        out: Path,
        settings: dict[str, Any],
        num_source_samples: int,
        resume: bool,
        how_to_resume: str = "the same command with --resume",
    ) -> None:
        self.out = out
        self._how_to_resume = how_to_resume
        self.path, self.parts_path, self.manifest_partial_path = partial_paths(out)
        self.num_source_samples = num_source_samples
        self.part_sizes: list[int] = []
        self.end = self._recorded_end = layout.data_start(num_source_samples)
        self.totals = Totals()
        self.published: dict[str, Any] | None = None
        self._lock = self._locked()
        try:
            parts = _finished_parts(self.parts_path)
            if parts is not None and not self.path.exists():
                # the beton already has its final name, or the images were deleted: their record is useless
                if self.out.exists() and self.manifest_partial_path.exists():
                    self._publish_for_the_killed(parts, settings if resume else {})
                parts.close()
                parts = None
            if parts is not None:
                self._check(parts, settings, resume)
            self._parts = parts or PartsFile(self.parts_path, settings)
            self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            if parts is None:  # unrecorded bytes would show in the gaps
                os.ftruncate(self._descriptor, 0)
        except BaseException:
            os.close(self._lock)
            raise

    def _publish_for_the_killed(self, parts: PartsFile, settings: dict[str, Any]) -> None:
        """Completes a conversion that was killed after the beton got its final name, and before the manifest did.

        If that conversion had the same settings, nothing is left to do, and `published` becomes the manifest.
        """
        try:
            manifest = json.loads(self.manifest_partial_path.read_bytes())
        except ValueError as error:
            raise UserError(f"{self.manifest_partial_path}: is damaged: delete it, and {self.parts_path.name}") from error
        is_same = parts.settings == settings
        finish_publishing(self.out, self.manifest_partial_path, self.parts_path)
        os.close(self._lock)
        self._lock = self._locked()
        self.published = manifest if is_same else None

    def _locked(self) -> int:
        """Opens the parts' file, creates it if needed, and returns a descriptor that holds this conversion's lock."""
        give_up = time.monotonic() + _LOCK_SECONDS
        while True:
            descriptor = os.open(self.parts_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(descriptor), self.parts_path.stat()):
                    return descriptor
            except FileNotFoundError:  # the process that held it has finished, and removed the file
                pass
            except BlockingIOError:
                if time.monotonic() > give_up:
                    os.close(descriptor)
                    raise UserError(f"{self.out}: another process is writing it: wait for that, or end it") from None
                time.sleep(0.05)
            os.close(descriptor)

    def _check(self, parts: PartsFile, settings: dict[str, Any], resume: bool) -> None:
        if not resume:
            parts.close()
            raise _interrupted(self.out)
        for section in {*parts.settings, *settings}:
            then, now = parts.settings.get(section, {}), settings.get(section, {})
            for name in sorted({*then, *now}):
                if then.get(name) != now.get(name):
                    parts.close()
                    was, is_now = (in_words(f"{section}.{name}", of.get(name)) for of in (then, now))
                    raise UserError(
                        f"{self.path}: cannot be resumed: {section}.{name} was {was!r} and is {is_now!r}; "
                        f"use the settings and the source of then, or delete it and {self.parts_path.name}"
                    )

    @property
    def num_parts(self) -> int:
        """Number of finished parts; `part_sizes` has the number of images of each."""
        return len(self.part_sizes)

    @property
    def num_samples(self) -> int:
        """Number of images in the finished parts."""
        return self.totals.num_samples

    @property
    def has_parts(self) -> bool:
        """Whether an earlier conversion left parts for take_up to check."""
        return next(iter(self._parts), None) is not None

    def take_up(self, num_workers: int, note: Callable[[int], None]) -> None:
        """Keeps the finished parts whose images match their records, and cuts off whatever comes after them.

        Calls note(number of samples) for each part that it checks.
        """
        num_recorded = sum(1 for _ in self._parts)
        sound = np.zeros(num_recorded, bool)

        def check(request: tuple[int, Part], in_hand: Callable[[int], None]) -> tuple[int, int, bool]:
            number, part = request
            return number, len(part.rows), _is_stored(self._descriptor, part)

        with closing(map_unordered(enumerate(self._parts), num_workers, check, str)) as answers:
            for number, num_samples, is_sound in answers:
                sound[number] = is_sound
                note(num_samples)
        num_sound = num_recorded if sound.all() else int(np.argmin(sound))
        self._parts.truncate(num_sound)
        for part in self._parts:
            self._count(part)
        self.end = self._recorded_end
        os.ftruncate(self._descriptor, self.end)

    def place(self, part: Part) -> None:
        """Fills in the offsets of the part's images; the part must be the next one."""
        offsets, self.end = layout.place(part.rows["size"].astype(np.int64), self.end)
        part.rows["offset"] = offsets

    def store(self, offsets: list[int], images: list[bytes]) -> None:
        """Writes images at their file offsets. Any process forked from this one may call it."""
        runs: list[list[bytes]] = []
        starts: list[int] = []
        expected = -1
        for offset, image in sorted(zip(offsets, images, strict=True)):
            if offset != expected:
                runs.append([])
                starts.append(offset)
            runs[-1].append(image)
            expected = offset + len(image)
        for start, run in zip(starts, runs, strict=True):
            write_pieces_at(self._descriptor, run, start)

    def write(self, content: memoryview, offset: int) -> None:
        """Writes bytes of one or several images, which follow each other, at a file offset. Any thread may call it."""
        write_at(self._descriptor, content, offset)
        os.posix_fadvise(self._descriptor, offset, content.nbytes, os.POSIX_FADV_DONTNEED)  # as write_pieces_at does

    def record(self, part: Part) -> None:
        """Records that the part's images are in the file; parts must come in order."""
        assert part.number == self.num_parts
        self._parts.append(part)
        self._count(part)

    def _count(self, part: Part) -> None:
        self.part_sizes.append(len(part.rows))
        self.totals.add(part)
        if len(part.rows):
            self._recorded_end = int((part.rows["offset"] + part.rows["size"]).max())

    def finish(self) -> None:
        """Writes everything in a beton except its images, and waits until it is on disk."""
        assert self.end == self._recorded_end
        num_samples = self.num_samples
        index_start = layout.aligned(self.end, layout.ALIGNMENT)
        lengths_start = index_start + num_samples * layout.INDEX_TYPE.itemsize
        lengths_end = lengths_start + self.totals.length_bytes
        table_start = layout.aligned(lengths_end, 8) + layout.TRAILER_TYPE.itemsize
        header = layout.header(num_samples, layout.enclosing_page(self.totals.largest), table_start)
        os.ftruncate(self._descriptor, self.end)  # an earlier attempt to finish may have written beyond this
        write_at(self._descriptor, header, 0)
        first = lengths_bytes = 0
        for part in self._parts:
            metadata, index, table = layout.tables(part.rows, first, lengths_bytes)
            write_at(self._descriptor, metadata, len(header) + first * layout.METADATA_TYPE.itemsize)
            write_at(self._descriptor, index, index_start + first * layout.INDEX_TYPE.itemsize)
            write_at(self._descriptor, part.lengths, lengths_start + lengths_bytes)
            write_at(self._descriptor, table, table_start + first * ALLOC_TABLE_TYPE.itemsize)
            first, lengths_bytes = first + len(part.rows), lengths_bytes + len(part.lengths)
        trailer = layout.trailer(num_samples, self.end, index_start, lengths_start, lengths_end)
        write_at(self._descriptor, trailer, table_start - len(trailer))
        os.fsync(self._descriptor)

    def publish(self, manifest_text: str) -> None:
        """Gives beton and manifest their final names; an earlier pair stays in place until then."""
        write_text(self.manifest_partial_path, manifest_text)
        self.path.replace(self.out)
        finish_publishing(self.out, self.manifest_partial_path, self.parts_path)

    def abandon(self) -> str:
        """Keeps what is finished and removes the rest; returns a line that says what was kept, "" for nothing."""
        if not self.path.exists() and self.manifest_partial_path.exists():  # the beton already has its final name
            finish_publishing(self.out, self.manifest_partial_path, self.parts_path)
            return ""
        self.manifest_partial_path.unlink(missing_ok=True)
        if not self.num_samples or not self.path.exists():
            self.path.unlink(missing_ok=True)
            self.parts_path.unlink(missing_ok=True)
            return ""
        os.ftruncate(self._descriptor, self._recorded_end)
        num_done = self.num_samples + self.totals.num_skipped
        return (
            f"{self.path} keeps {num_done:,} of {self.num_source_samples:,} images, {self._recorded_end / 1e6:,.1f} MB: "
            f"{self._how_to_resume} goes on from there; to give up, delete it and {self.parts_path.name}"
        )

    def tell_what_is_kept(self) -> None:
        """Abandons it because of the exception that is being handled, and says on stderr what is kept, if the user asks."""
        kept = self.abandon()
        if kept or ending_of(sys.exception()) is not None:
            print(kept or f"{self.out}: nothing is kept of what was written", file=sys.stderr)

    def close(self) -> None:
        self._parts.close()
        os.close(self._descriptor)
        os.close(self._lock)


def partial_paths(out: Path) -> tuple[Path, Path, Path]:
    """Paths of an unfinished conversion's beton, of the record of its parts, and of its manifest."""
    return tuple(out.with_name(f"{out.name}.partial{suffix}") for suffix in ("", ".parts", ".json"))  # type: ignore[return-value]


def refuse_interrupted(out: Path) -> None:
    """Raises UserError if an earlier conversion has left finished parts of this beton."""
    path, parts_path, _ = partial_paths(out)
    if path.exists() and parts_path.exists():
        parts = _finished_parts(parts_path)
        if parts is not None:
            parts.close()
            raise _interrupted(out)


def _interrupted(out: Path) -> UserError:
    path, parts_path, _ = partial_paths(out)
    return UserError(
        f"{path}: is what an interrupted conversion has finished: --resume goes on with it; to start anew, delete it and "
        f"{parts_path.name}"
    )


def _finished_parts(path: Path) -> PartsFile | None:
    """The record of an earlier conversion at a path, None if that finished nothing."""
    parts = PartsFile.reopen(path)
    if parts is not None and next(iter(parts), None) is None:
        parts.close()
        return None
    return parts


def _is_stored(descriptor: int, part: Part) -> bool:
    """Whether the images of a part in the file match its record."""
    lengths_start = 0
    for row in part.rows:
        lengths_end = lengths_start + int(row["num_tiles"]) * int(row["length_bytes"])
        stored = read_at(descriptor, int(row["size"]), int(row["offset"]))
        digest = layout.sample_digest(row, part.lengths[lengths_start:lengths_end], stored)
        if digest != row["digest"].tobytes():
            return False
        lengths_start = lengths_end
    return True


def finish_publishing(out: Path, manifest_partial: Path, parts: Path) -> None:
    """Once the beton has its final name, gives the manifest its own, and removes the record of the parts."""
    manifest_partial.replace(manifest_path(out))
    sync(out.parent)
    parts.unlink()
