"""Gives any process random access to the bytes of an archive file, compressed or not."""

from __future__ import annotations

import bz2
import errno
import gzip
import lzma
import os
import shutil
import signal
import tempfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import IO, TypeVar

from deit_fast.config import UserError
from deit_fast.cores import num_cores
from deit_fast.data.convert.sources.tar_listing import NOWHERE
from deit_fast.data.format.files import read_at

MAX_PROCESSES = 32
MIN_TASKS_TO_FORK = 16

Task = TypeVar("Task")
Result = TypeVar("Result")


class Archive:
    """The bytes of a file, which any number of processes forked from the one that opened it can read at any position.

    There is no shared position: each read names its offset. A file compressed by gzip, bzip2 or xz, recognised by its first
    bytes, is unpacked once into an unnamed file in `scratch` (None: the archive's folder, or the system's temporary folder,
    TMPDIR, if that cannot be written). It vanishes with the last process that has it open, however that process ends.

    Raises UserError if the file is missing or damaged, or scratch is full.
    """

    def __init__(self, path: Path, scratch: Path | None = None) -> None:
        self.path = path
        if path.is_dir():
            raise UserError(f"{path}: is a folder: want a file")
        try:
            with path.open("rb") as file:
                unpacked = self._file = _unpacked(path, file.read(6), scratch)
                self._is_unpacked = unpacked is not None
                self.size = os.fstat((unpacked or file).fileno()).st_size
        except OSError as error:
            raise UserError(f"{path}: cannot be read: {error.strerror or error}") from error

    @property
    def unpacked_descriptor(self) -> int | None:
        """The descriptor of the unpacked file, which forked processes inherit; None if path itself is read."""
        return self._file.fileno() if self._is_unpacked and self._file is not None else None

    @property
    def descriptor(self) -> int:
        """A descriptor for positioned reads only; opened at first use."""
        if self._file is None:
            self._file = self.path.open("rb", buffering=0)
        return self._file.fileno()

    def read(self, offset: int, size: int, name: str) -> bytes:
        """Raises OSError with `name` if fewer than size bytes are there, or offset is NOWHERE."""
        if offset == NOWHERE:
            raise OSError(f"{self.path}: {name} is a link that leads nowhere in it, or no regular file")
        content = read_at(self.descriptor, size, offset)
        if len(content) != size:
            raise OSError(f"{self.path}: ends within {name}: {len(content)} of its {size} bytes are there")
        return content

    def release(self) -> None:
        """Closes the descriptor until the next read, unless unpacked, so that thousands of archives can stay in use."""
        if self.unpacked_descriptor is None:
            self.close()

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def in_processes(function: Callable[[Task], Result], tasks: Sequence[Task]) -> list[Result]:
    """Applies function to each task, in order, in one forked process per core; in this process if tasks are few.

    Raises what function raises. A task may hold open descriptors: the processes inherit them.
    """
    if len(tasks) < MIN_TASKS_TO_FORK:
        return [function(task) for task in tasks]
    processes = min(num_cores(), MAX_PROCESSES)
    pool = ProcessPoolExecutor(processes, get_context("fork"), signal.signal, (signal.SIGINT, signal.SIG_IGN))
    try:
        return list(pool.map(function, tasks))
    finally:
        pool.shutdown(cancel_futures=True)


def _unpacked(path: Path, magic: bytes, scratch: Path | None) -> IO[bytes] | None:
    """An unnamed file with the unpacked bytes; None if path is not compressed."""
    opener: Callable[[Path], gzip.GzipFile | bz2.BZ2File | lzma.LZMAFile]
    if magic.startswith(b"\x1f\x8b"):
        opener = gzip.GzipFile
    elif magic.startswith(b"BZh"):
        opener = bz2.BZ2File
    elif magic.startswith(b"\xfd7zXZ\0"):
        opener = lzma.LZMAFile
    elif magic.startswith((b"\x28\xb5\x2f\xfd", b"PK\x03\x04")):
        raise UserError(f"{path}: compressed by zstd or zip: want a tar, plain or by gzip, bzip2 or xz; unpack it first")
    else:
        return None
    if scratch is None and os.access(path.parent, os.W_OK):
        scratch = path.parent
    folder = tempfile.gettempdir() if scratch is None else str(scratch)
    try:
        unpacked = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  (stays open with the archive)
    except OSError as error:
        raise UserError(f"{folder}: no place for the unpacked {path.name}: {error.strerror}") from error
    try:
        with opener(path) as packed:
            shutil.copyfileobj(packed, unpacked, 1 << 20)
        unpacked.flush()
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        unpacked.close()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise UserError(
                f"{folder}: {error.strerror}: no place for the unpacked {path.name}; free some, or unpack it elsewhere yourself"
            ) from error
        raise UserError(f"{path}: truncated or damaged: {error}; fetch it again") from error
    return unpacked
