"""Reads the files of a folder or a tar by number, and makes a source of those in a list of names and labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import UserError
from deit_fast.data.convert.sources.accounts import Accounts, LeftOut, left_out_for_names
from deit_fast.data.convert.sources.archives import Archive
from deit_fast.data.convert.sources.base import Names, Source
from deit_fast.data.convert.sources.file_names import reason_to_leave_out
from deit_fast.data.convert.sources.tar_listing import list_tar
from deit_fast.data.convert.sources.walk import files_below
from deit_fast.data.format.files import read_file


class Files(ABC):
    """Files below a folder or in a tar, with their names (with `/`); `location`: that folder or tar."""

    location: str
    names: Names
    left_out: list[LeftOut]  # not among the names: hidden folders, links in a circle

    @abstractmethod
    def read(self, number: int) -> bytes:
        """Raises OSError if the file cannot be read."""

    def numbers(self, wanted: Sequence[str]) -> NDArray[np.int64]:
        """Positions of these names. Raises UserError with the first that is missing."""
        known = {self.names[number]: number for number in range(len(self.names))}
        missing = [name for name in wanted if name not in known]
        if missing:
            raise UserError(f"{self.location}: {len(missing)} of {len(wanted)} files are missing, the first is {missing[0]!r}")
        return np.array([known[name] for name in wanted], dtype=np.int64)

    def read_named(self, ending: str) -> bytes:
        """The only file whose path ends so. Raises UserError if there is none or several, or it cannot be read."""
        found = [n for n in range(len(self.names)) if f"/{self.names[n]}".endswith(f"/{ending}")]
        if len(found) != 1:
            raise UserError(f"{self.location}: has {len(found)} files {ending!r}: want one")
        try:
            return self.read(found[0])
        except OSError as error:
            raise UserError(f"{self.location}: {ending} cannot be read: {error.strerror or error}") from error

    @abstractmethod
    def close(self) -> None:
        """Closes open files."""


class Folder(Files):
    """All files below a folder, sorted by name; names begin with the folder's own name, as in a tar of it.

    Raises UserError if it cannot be listed.
    """

    def __init__(self, root: Path) -> None:
        self.location = str(root)
        self._root = root
        names, self.left_out = files_below(root, f"{root.name}/")
        self.names = Names(sorted(names))

    def read(self, number: int) -> bytes:
        return read_file(self._root.parent / self.names[number])

    def close(self) -> None:
        pass


class Tar(Files):
    """The files of a tar in its order, links followed. Raises UserError if it is no tar, damaged, or cannot be unpacked."""

    def __init__(self, path: Path, scratch: Path | None = None) -> None:
        self.location = str(path)
        self._archive = Archive(path, scratch)
        try:
            listing = list_tar(self._archive.descriptor, 0, self._archive.size, self.location)
        except BaseException:
            self._archive.close()
            raise
        self.names = Names(listing.names)
        self.left_out = listing.left_out()
        self._offsets = np.array(listing.offsets, dtype=np.int64)
        self._sizes = np.array(listing.sizes, dtype=np.int64)

    def read(self, number: int) -> bytes:
        return self._archive.read(int(self._offsets[number]), int(self._sizes[number]), self.names[number])

    def close(self) -> None:
        self._archive.close()


def open_first(candidates: Iterable[Path], scratch: Path | None = None) -> Files | None:
    """Opens the first candidate that exists, a folder or a tar; None if none does."""
    for path in candidates:
        if path.exists():
            return Folder(path) if path.is_dir() else Tar(path, scratch)
    return None


class LabelledFiles(Source):
    """Files by name, each with a label, in the order given.

    Raises UserError if a file is missing, there are no files or not as many labels, or a label is not the number of
    a class.
    """

    def __init__(
        self, location: Path, files: Files, names: Sequence[str], labels: Sequence[int], classes: Sequence[str]
    ) -> None:
        self.location = str(location)
        self.classes = tuple(classes)
        self.labels = checked_labels(location, labels, len(names), len(classes))
        self._files = files
        self._numbers = files.numbers(names)
        self._accounts = accounts_of_list(files, self._numbers)

    def name(self, sample: int) -> str:
        return self._files.names[int(self._numbers[sample])]

    def read(self, sample: int) -> bytes:
        return self._files.read(int(self._numbers[sample]))

    def accounts(self) -> Accounts:
        return self._accounts

    def close(self) -> None:
        self._files.close()


def accounts_of_list(files: Files, chosen: NDArray[np.int64]) -> Accounts:
    """Accounts of files when those at the `chosen` positions are images; a position may occur several times."""
    num_files, num_again = len(files.names), len(chosen) - len(np.unique(chosen))
    others = [files.names[number] for number in np.setdiff1d(np.arange(num_files), chosen).tolist()]
    images = [name for name in others if not reason_to_leave_out(name)]
    left_out = files.left_out + left_out_for_names(name for name in others if reason_to_leave_out(name))
    if images:
        left_out.append(LeftOut(images[0] if len(images) == 1 else "*", "in no list of this split", len(images)))
    num_seen = num_files + num_again + sum(entry.num_files for entry in files.left_out)
    return Accounts(num_seen, left_out=left_out)


def checked_labels(location: Path, labels: Sequence[int], num_images: int, num_classes: int) -> NDArray[np.int32]:
    """labels as an array. Raises UserError if there are none, not num_images, or one outside 0 to num_classes - 1."""
    if len(labels) != num_images:
        raise UserError(f"{location}: has {num_images} images and {len(labels)} labels: want as many of both")
    if num_images == 0:
        raise UserError(f"{location}: has no images")
    array = np.array(labels, dtype=np.int64)
    wrong = np.flatnonzero((array < 0) | (array >= num_classes))
    if len(wrong):
        raise UserError(
            f"{location}: image {wrong[0]} has the label {array[wrong[0]]}: want 0 to {num_classes - 1}, as there are "
            f"{num_classes} class names"
        )
    return array.astype(np.int32)
