"""Records the finished parts of a conversion beside its beton, so that a later conversion can continue.

The beton holds the images of a part. The record is written after them, and counts only if its checksum
matches. However a process ends, all records but perhaps a torn last one are complete; that one is cut off.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from deit_fast.config import as_now
from deit_fast.data.format.files import write_at
from deit_fast.data.format.part import Part

_MAGIC = b"deit_fast parts 1\n"
_FRAME = struct.Struct("<QI")  # bytes of the content, and its CRC-32


class PartsFile:
    """The file of finished parts. `settings`: the conversion's settings, as JSON."""

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        """Starts an empty file, and replaces an earlier one."""
        self.path = path
        self.settings = settings
        self._file: BinaryIO = path.open("w+b", buffering=0)
        beginning = _MAGIC + _framed(json.dumps(settings).encode())
        write_at(self._file.fileno(), beginning, 0)
        self._first = self._end = len(beginning)

    @classmethod
    def reopen(cls, path: Path) -> PartsFile | None:
        """Opens the file of an interrupted conversion to continue it; None if even its beginning is incomplete."""
        file: BinaryIO = path.open("r+b", buffering=0)
        settings = _read_frame(file) if file.read(len(_MAGIC)) == _MAGIC else None
        if settings is None:
            file.close()
            return None
        parts = cls.__new__(cls)
        parts.path, parts.settings, parts._file = path, as_now(json.loads(settings)), file
        parts._first = parts._end = file.tell()
        for _ in parts:
            parts._end = file.tell()
        return parts

    def __iter__(self) -> Iterator[Part]:
        """Reads the parts with complete records one at a time, in order."""
        self._file.seek(self._first)
        while (content := _read_frame(self._file)) is not None:
            yield Part.from_bytes(content)

    def truncate(self, num_parts: int) -> None:
        """Cuts off all records after the first num_parts, torn ones included; `append` continues there."""
        self._file.seek(self._first)
        for _ in range(num_parts):
            assert _read_frame(self._file) is not None
        self._end = self._file.tell()
        self._file.truncate(self._end)

    def append(self, part: Part) -> None:
        """Adds a part, which stays however this process ends."""
        content = _framed(part.to_bytes())
        write_at(self._file.fileno(), content, self._end)
        self._end += len(content)

    def close(self) -> None:
        self._file.close()


def _framed(content: bytes) -> bytes:
    return _FRAME.pack(len(content), zlib.crc32(content)) + content


def _read_frame(file: BinaryIO) -> bytes | None:
    """The content of the next frame; None at the end of the file and from a torn frame on."""
    head = file.read(_FRAME.size)
    if len(head) < _FRAME.size:
        return None
    num_bytes, checksum = _FRAME.unpack(head)
    if num_bytes > os.fstat(file.fileno()).st_size:
        return None
    content = file.read(num_bytes)
    return content if len(content) == num_bytes and zlib.crc32(content) == checksum else None
