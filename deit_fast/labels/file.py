"""Reads and writes a file of a teacher's answers: one for each view of each epoch, with a hash for each block of them.

The parts of a file, each from a multiple of 4096 bytes on, numbers little-endian:

- b"DFLABELS", the length of the header in bytes (uint32), the header as JSON, and the SHA-256 of all before it;
- the SHA-256 of each block of answers, (epochs, blocks, 32) bytes; zeros where a block is still to be written;
- the answers, (epochs, positions) of `Header.entry`: 2 bytes for a class, and 2 for its probability if there are any.

A position is that of a view in the stream of its epoch, which all ranks share (`data.load.order`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import RankError, UserError

MAX_CLASSES = 1 << 16
_MAGIC = b"DFLABELS"
_ALIGNMENT = 4096
_HASH_BYTES = 32
_MOST_HEADER_BYTES = 1 << 20


@dataclass(frozen=True)
class Header:
    """What a file of labels holds, and which runs it is for.

    of: mixed: the teacher saw the mixed images, as DeiT's does; views: the views before mixing. top: classes of each answer,
    the most likely first; 1: without probabilities. num_positions: views of an epoch; block_size: of a block. belongs: by
    name, the options and digests that decide what the teacher saw. teachers: architecture and digest of each. facts: how the
    file was made, which decides nothing.
    """

    of: Literal["mixed", "views"]
    top: int
    num_classes: int
    num_epochs: int
    num_positions: int
    block_size: int
    belongs: dict[str, Any]
    teachers: list[dict[str, str]]
    facts: dict[str, Any] = dataclasses.field(default_factory=dict, compare=False)

    @property
    def entry(self) -> np.dtype:
        """An answer: `classes` (top,) uint16 and, with several, their `probabilities` (top,) float16, which fall."""
        fields: list[Any] = [("classes", "<u2", (self.top,))]
        return np.dtype(fields if self.top == 1 else [*fields, ("probabilities", "<f2", (self.top,))])

    @property
    def num_blocks(self) -> int:
        """Blocks of an epoch; the last may be shorter."""
        return -(-self.num_positions // self.block_size)

    def positions(self, block: int) -> range:
        """The positions of a block."""
        return range(block * self.block_size, min((block + 1) * self.block_size, self.num_positions))

    def as_bytes(self) -> bytes:
        """The first part of the file."""
        text = json.dumps(dataclasses.asdict(self), sort_keys=True).encode()
        begin = _MAGIC + len(text).to_bytes(4, "little") + text
        return begin + hashlib.sha256(begin).digest()

    @property
    def num_bytes(self) -> int:
        """Size of the file."""
        return _offsets(self)[1] + self.num_epochs * self.num_positions * self.entry.itemsize


class LabelsFile:
    """A complete file of labels, mapped into memory. Blocks are checked against their hashes when they are first read.

    Raises UserError for a file that is missing or incomplete, whose header is damaged, or that `deit-fast teach` did not write.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.header = read_header(self.path)
        if self.path.stat().st_size != self.header.num_bytes:
            raise UserError(
                f"labels {self.path}: has {self.path.stat().st_size:,} of {self.header.num_bytes:,} bytes; want a whole copy"
            )
        self._hashes, self._answers = _mapped(self.path, self.header, "r")
        self._is_checked = np.zeros(self._hashes.shape[:2], bool)

    @property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of the header and the blocks' hashes, and so of all content."""
        return hashlib.sha256(self.header.as_bytes() + self._hashes.tobytes()).hexdigest()

    def read(self, epoch: int, first: int, count: int) -> NDArray[np.void]:
        """Answers (count,) of `Header.entry` at positions of an epoch, from first on. Raises RankError for a damaged block."""
        for block in range(first // self.header.block_size, (first + count - 1) // self.header.block_size + 1):
            if not self._is_checked[epoch, block]:
                self._check(epoch, block)
        return self._answers[epoch, first : first + count]

    def _check(self, epoch: int, block: int) -> None:
        positions = self.header.positions(block)
        if self._hashes[epoch, block].tobytes() != _hash(self._answers[epoch, positions.start : positions.stop]):
            raise RankError(
                f"labels {self.path}: damaged in epoch {epoch + 1}, views {positions.start:,} to {positions.stop - 1:,}; want "
                "another copy, or write it again with deit-fast teach"
            )
        self._is_checked[epoch, block] = True


class LabelsWriter:
    """Writes a file of labels, as `PATH.part` until it is complete; continues what an earlier process began there.

    Raises UserError if a file of other labels is there; the error names the first field that differs.
    """

    def __init__(self, path: Path | str, header: Header) -> None:
        self.path, self.header = Path(path), header
        self.part = self.path.with_name(self.path.name + ".part")
        if self.path.exists():
            check_same(header, read_header(self.path), f"labels {self.path}", "want another teach.out, or delete that file")
        self.is_whole = self.path.exists()
        if self.is_whole:
            return
        if self.part.exists():
            check_same(header, read_header(self.part), f"labels {self.part}", "want another teach.out, or delete that file")
        else:
            self._create()
        self._hashes, self._answers = _mapped(self.part, header, "r+")

    def _create(self) -> None:
        first = self.part.with_name(f".{self.part.name}.{os.getpid()}")
        try:
            self.part.parent.mkdir(parents=True, exist_ok=True)
            with first.open("wb") as file:
                file.write(self.header.as_bytes())
                os.posix_fallocate(file.fileno(), 0, self.header.num_bytes)  # a full disk shows now, not after hours
                os.fsync(file.fileno())
            first.replace(self.part)
        except OSError as error:
            with contextlib.suppress(OSError):
                first.unlink(missing_ok=True)
            raise UserError(
                f"teach.out={self.path}: cannot be written ({error.strerror}); want {self.header.num_bytes:,} bytes on a disk"
            ) from error

    def missing(self) -> list[list[int]]:
        """For each epoch, the blocks that are still to be written, or damaged."""
        if self.is_whole:
            return [[] for _ in range(self.header.num_epochs)]
        return [
            [block for block in range(self.header.num_blocks) if not self._is_written(epoch, block)]
            for epoch in range(self.header.num_epochs)
        ]

    def _is_written(self, epoch: int, block: int) -> bool:
        known = self._hashes[epoch, block]
        positions = self.header.positions(block)
        return bool(known.any()) and known.tobytes() == _hash(self._answers[epoch, positions.start : positions.stop])

    def write(self, epoch: int, block: int, answers: NDArray[np.void]) -> None:
        """Writes a block's answers, of `Header.entry`, and then its hash."""
        positions = self.header.positions(block)
        assert len(answers) == len(positions)
        self._answers[epoch, positions.start : positions.stop] = answers
        self._hashes[epoch, block] = np.frombuffer(_hash(answers), np.uint8)

    def finish(self) -> None:
        """Gives the file its name, if it has none yet. All its blocks must have been written."""
        if self.is_whole:
            return
        self.flush()
        del self._answers, self._hashes
        self.part.replace(self.path)
        self.is_whole = True

    def flush(self) -> None:
        """Waits until all that was written is on the disk."""
        descriptor = os.open(self.part, os.O_RDONLY)
        try:
            self._answers.flush()
            self._hashes.flush()
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_header(path: Path) -> Header:
    """The header of a file of labels. Raises UserError if there is none, or it is damaged."""
    if not path.is_file():
        part = path.with_name(path.name + ".part")
        hint = f"; {part} is incomplete: continue it with deit-fast teach" if part.is_file() else ""
        raise UserError(f"labels {path}: no such file{hint}")
    with path.open("rb") as file:
        begin = file.read(len(_MAGIC) + 4)
        length = int.from_bytes(begin[len(_MAGIC) :], "little")
        if begin[: len(_MAGIC)] != _MAGIC or length > _MOST_HEADER_BYTES:
            raise UserError(f"labels {path}: is not a file of labels; want one that deit-fast teach has written")
        text = file.read(length)
        if hashlib.sha256(begin + text).digest() != file.read(_HASH_BYTES):
            raise UserError(f"labels {path}: its header is damaged; want another copy, or write it again with deit-fast teach")
    return Header(**json.loads(text))


def check_same(ours: Header, theirs: Header, where: str, remedy: str) -> None:
    """Raises UserError with the first field in which two headers differ, if any. where: names theirs."""
    mine, other = _deciding(ours), _deciding(theirs)
    for name in mine | other:
        if mine.get(name) != other.get(name):
            raise UserError(f"{where}: has {name}={other.get(name)}, not {mine.get(name)}; {remedy}")


def _deciding(header: Header) -> dict[str, Any]:
    """The fields that decide what the answers are, by name, in the types that JSON gives back."""
    fields = dataclasses.asdict(header)
    belongs = fields.pop("belongs")
    del fields["facts"]
    plain: dict[str, Any] = json.loads(json.dumps(belongs | fields))
    return plain


def _offsets(header: Header) -> tuple[int, int]:
    """The bytes at which hashes and answers begin."""
    hashes = _aligned(len(header.as_bytes()))
    return hashes, _aligned(hashes + header.num_epochs * header.num_blocks * _HASH_BYTES)


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


def _mapped(path: Path, header: Header, mode: Literal["r", "r+"]) -> tuple[np.memmap[Any, Any], np.memmap[Any, Any]]:
    """Hashes (epochs, blocks, 32) uint8 and answers (epochs, positions) of a file."""
    hashes, answers = _offsets(header)
    shape = header.num_epochs, header.num_blocks, _HASH_BYTES
    return (
        np.memmap(path, np.uint8, mode, hashes, shape),
        np.memmap(path, header.entry, mode, answers, (header.num_epochs, header.num_positions)),
    )


def _hash(answers: NDArray[np.void]) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(answers).data).digest()
