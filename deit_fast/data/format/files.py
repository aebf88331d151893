"""Writes or reads all requested bytes at a position in a file, or raises."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_MOST_PIECES = 1024  # in one write
_ONE_WRITE = 1 << 30  # Linux writes at most 2 GiB less a page at once


def write_at(descriptor: int, content: bytes | memoryview, offset: int) -> None:
    """Writes all of content at a file offset; raises OSError, ENOSPC if the system takes a part and then nothing."""
    view = memoryview(content)
    while view.nbytes:
        written = os.pwrite(descriptor, view[:_ONE_WRITE], offset)
        if written == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        view, offset = view[written:], offset + written


def write_pieces_at(descriptor: int, pieces: list[bytes], offset: int) -> None:
    """Writes consecutive pieces from a file offset on without joining them first; raises as write_at does."""
    for first in range(0, len(pieces), _MOST_PIECES):
        some = pieces[first : first + _MOST_PIECES]
        num_bytes = sum(map(len, some))
        if os.pwritev(descriptor, some, offset) != num_bytes:  # the disk is full, or it is too much for one write
            write_at(descriptor, b"".join(some), offset)
        # asks the kernel to start writing to disk now, without waiting; it would else start at the last sync
        os.posix_fadvise(descriptor, offset, num_bytes, os.POSIX_FADV_DONTNEED)
        offset += num_bytes


def read_at(descriptor: int, num_bytes: int, offset: int) -> bytes:
    """Reads num_bytes at a file offset; fewer only at the end of the file."""
    pieces = []
    while num_bytes and (piece := os.pread(descriptor, min(num_bytes, _ONE_WRITE), offset)):
        pieces.append(piece)
        num_bytes, offset = num_bytes - len(piece), offset + len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def read_into(descriptor: int, buffer: memoryview, offset: int) -> int:
    """Fills a writable buffer of bytes from a file offset on; gives their number, smaller only at the end of the file."""
    num_read = 0
    while num_read < buffer.nbytes and (more := os.preadv(descriptor, [buffer[num_read:]], offset + num_read)):
        num_read += more
    return num_read


def sync(path: Path) -> None:
    """Waits until the file, or the names in the folder, are on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Writes a file and waits until it is on disk; leaves no file if that fails."""
    try:
        path.write_text(text, encoding="utf-8")
        sync(path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def read_file(path: str | Path) -> bytes:
    """Reads a regular file; raises OSError for a pipe, a device or a folder, without waiting."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", str(path))
        return read_at(descriptor, status.st_size, 0)
    finally:
        os.close(descriptor)


def printable(text: str) -> str:
    """The text on one line, with control characters and undecodable bytes escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
