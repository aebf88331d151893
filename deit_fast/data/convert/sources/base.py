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

    `classes` are the names in the order of the labels, `labels` (num_samples,) int32 positions in them, and `location`
    is what people know the source by. Opened in one process, a source can be read in any number of processes forked
    from it at the same time: nothing that reading changes is shared between them.
    """

    location: str
    classes: tuple[str, ...]
    labels: NDArray[np.int32]

    @property
    def num_samples(self) -> int:
        return len(self.labels)

    @abstractmethod
    def name(self, sample: int) -> str:
        """What people know the image by: a path, or a path within an archive or shard."""

    @abstractmethod
    def read(self, sample: int) -> bytes | NDArray[np.uint8]:
        """The encoded bytes of an image, or where the source has none its RGB pixels (height, width, 3) uint8.

        Raises OSError where it cannot be read, and nothing else for what users may have in their files.
        """

    def block_starts(self) -> NDArray[np.int64] | None:
        """First sample of each block that must be read as a whole to get at one of its images; None: there are none."""
        return None

    def part_starts(self) -> NDArray[np.int64]:
        """First sample of each part, a run of samples that one process converts; ascending, the first is 0.

        The same for the same source, whatever the machine: SAMPLES_PER_PART each, or so many whole blocks as make that
        up; a block is cut where its parts would be over MAX_SAMPLES_PER_PART.
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
        """SHA-256, in hexadecimal, of classes, labels and names: two sources that differ in them differ in this."""
        digest = hashlib.sha256(repr(self.classes).encode())
        digest.update(np.ascontiguousarray(self.labels, "<i4").tobytes())
        for sample in range(self.num_samples):
            digest.update(os.fsencode(self.name(sample)) + b"\0")
        return digest.hexdigest()

    def accounts(self) -> Accounts:
        """What became of each file of the source; by default each is a sample."""
        return Accounts(self.num_samples)

    def close(self) -> None:  # noqa: B027  (a source without open files need not have its own)
        """Lets go of open files; there may be none."""


class Names:
    """Many strings in two arrays: a list of a million paths takes four times the memory, and forked processes copy it."""

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
    """A source with other class names: those of a text file, by name where it has all of the source's, else by number.

    Raises UserError where a class of the source is not among the names and they are not as many as its classes.
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
    """The source, or a random subset of `count` samples where it has more, each class with its share; None: all."""
    if count is None or count >= source.num_samples:
        return source
    return Subset(source, stratified(source.labels, len(source.classes), count, seed))
