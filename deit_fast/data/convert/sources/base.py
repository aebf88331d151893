"""Interface of every source: classes, labels, names, and the bytes of one image at a time."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from deit_fast.data.convert.sources.accounts import Accounts
from deit_fast.data.convert.sources.class_names import positions
from deit_fast.data.format.subset import stratified

SAMPLES_PER_PART = 64
MAX_SAMPLES_PER_PART = 512


class Source(ABC):
    """Labelled images, read by number.

    `classes`: names in the order of the labels; `labels`: (num_samples,) int32 positions in them; `location`: the source's
    name for users. Any number of processes forked from the one that opened a source can read it at the same time, since
    they share nothing that reading changes.
    """

    location: str
    classes: tuple[str, ...]
    labels: NDArray[np.int32]

    @property
    def num_samples(self) -> int:
        return len(self.labels)

    @abstractmethod
    def name(self, sample: int) -> str:
        """The image's name for users: a path, or a path within an archive or shard."""

    @abstractmethod
    def read(self, sample: int) -> bytes | NDArray[np.uint8]:
        """The encoded bytes of an image, or its RGB pixels (height, width, 3) uint8 if the source has no encoded bytes.

        Raises OSError if it cannot be read, and no other error for whatever a user's files contain.
        """

    def block_starts(self) -> NDArray[np.int64] | None:
        """First sample of each block, which must be read whole to reach one of its images; None: no blocks."""
        return None

    def part_starts(self) -> NDArray[np.int64]:
        """First sample of each part, a run of samples that one process converts; ascending, the first is 0.

        The same for the same source on any machine. A part has SAMPLES_PER_PART samples, or enough whole blocks to reach
        that; a block is cut where a part would exceed MAX_SAMPLES_PER_PART.
        """
        blocks = self.block_starts()
        if blocks is None:
            return np.arange(0, self.num_samples, SAMPLES_PER_PART)
        starts, part = [0], 0
        for start, end in zip(blocks, [*blocks[1:], self.num_samples], strict=True):
            if start - part >= SAMPLES_PER_PART:
                part = int(start)
                starts.append(part)
            while end - part > MAX_SAMPLES_PER_PART:
                part += MAX_SAMPLES_PER_PART
                starts.append(part)
        return np.array(starts, dtype=np.int64)

    def digest(self) -> str:
        """SHA-256, in hexadecimal, of classes, labels and names."""
        digest = hashlib.sha256(repr(self.classes).encode())
        digest.update(np.ascontiguousarray(self.labels, "<i4").tobytes())
        for sample in range(self.num_samples):
            digest.update(os.fsencode(self.name(sample)) + b"\0")
        return digest.hexdigest()

    def accounts(self) -> Accounts:
        """What happened to each file of the source; by default each is a sample."""
        return Accounts(self.num_samples)

    def close(self) -> None:  # noqa: B027  (a source without open files needs no override)
        """Closes open files, if there are any."""


class Names:
    """Many strings in two arrays: a list of a million paths needs four times the memory, and forked processes copy it."""

    def __init__(self, names: Iterable[str]) -> None:
        encoded = [os.fsencode(name) for name in names]
        self._ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)
        self._text = b"".join(encoded)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        start = self._ends[index - 1] if index > 0 else 0
        return os.fsdecode(self._text[start : self._ends[index]])


class Subset(Source):
    """Some samples of a source, in the source's order."""

    def __init__(self, source: Source, samples: NDArray[np.int64]) -> None:
        self.source = source
        self.samples = np.sort(samples)
        self.location = source.location
        self.classes = source.classes
        self.labels = source.labels[self.samples]

    def name(self, sample: int) -> str:
        return self.source.name(int(self.samples[sample]))

    def read(self, sample: int) -> bytes | NDArray[np.uint8]:
        return self.source.read(int(self.samples[sample]))

    def block_starts(self) -> NDArray[np.int64] | None:
        blocks = self.source.block_starts()
        if blocks is None:
            return None
        starts = np.unique(np.searchsorted(self.samples, blocks))
        return starts[starts < self.num_samples]

    def accounts(self) -> Accounts:
        return dataclasses.replace(self.source.accounts(), num_not_chosen=self.source.num_samples - self.num_samples)

    def close(self) -> None:
        self.source.close()


class Renamed(Source):
    """A source with class names from a text file: by number if they are as many, none of them the source's, else by name.

    Raises UserError if it matches by name and the names lack a class of the source.
    """

    def __init__(self, source: Source, names: Sequence[str], origin: str) -> None:
        self.source = source
        self.location = source.location
        self.classes = tuple(names)
        is_list_of_other_names = len(names) == len(source.classes) and not {*names} & {*source.classes}
        if is_list_of_other_names:
            self.labels = source.labels
        else:
            self.labels = positions(source.classes, names, source.location, origin)[source.labels]

    def name(self, sample: int) -> str:
        return self.source.name(sample)

    def read(self, sample: int) -> bytes | NDArray[np.uint8]:
        return self.source.read(sample)

    def block_starts(self) -> NDArray[np.int64] | None:
        return self.source.block_starts()

    def accounts(self) -> Accounts:
        return self.source.accounts()

    def close(self) -> None:
        self.source.close()


def at_most(source: Source, count: int | None, seed: int = 0) -> Source:
    """The source, or a random subset of `count` samples if it has more, in which each class keeps its share; None: all."""
    if count is None or count >= source.num_samples:
        return source
    return Subset(source, stratified(source.labels, len(source.classes), count, seed))
