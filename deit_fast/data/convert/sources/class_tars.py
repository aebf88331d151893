"""Reads one tar for each class as a source, in a folder or in one tar, as ImageNet-21k is distributed."""

from __future__ import annotations

import os
import posixpath
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import UserError
from deit_fast.data.convert.sources.accounts import Accounts, LeftOut, add_up, left_out_for_names
from deit_fast.data.convert.sources.archives import Archive, in_processes
from deit_fast.data.convert.sources.base import Names, Source
from deit_fast.data.convert.sources.class_names import TAR
from deit_fast.data.convert.sources.file_names import IMAGE_EXTENSIONS, reason_to_leave_out
from deit_fast.data.convert.sources.tar_listing import NOWHERE, TarListing, list_tar
from deit_fast.data.convert.sources.walk import entries_of


class ClassTars(Source):
    """The images of the tars NAME.tar in a folder, or in a tar that holds them, compressed or not.

    Classes, names (NAME/FILE), labels and order are those of the image folder that has each tar unpacked in a folder NAME. A
    tar without images is a class without images. Raises UserError if there are no tars or no images, or a tar is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.location = str(path)
        self._is_folder = path.is_dir()
        archive = None if self._is_folder else Archive(path)
        tars, beside = _tars_in_folder(path) if archive is None else tars_in_tar(archive)
        self.classes = tuple(tar.name for tar in tars)
        listed = in_processes(images_of_class, tars)
        self._archives = [Archive(Path(tar.path)) for tar in tars] if archive is None else [archive]
        self._names = Names(
            f"{name}/{image}" for name, images in zip(self.classes, listed, strict=True) for image in images.names
        )
        if not len(self._names):
            wanted = " ".join(IMAGE_EXTENSIONS)
            raise UserError(f"{path}: {len(tars)} tars without images: want files in them that end in {wanted}")
        self._places = np.concatenate([images.places for images in listed])
        counts = [len(images.names) for images in listed]
        self.labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        self._accounts = add_up([beside, *(images.accounts for images in listed)])
        self._reading = 0

    def name(self, sample: int) -> str:
        """NAME/FILE, the path below the folder that the tars would unpack to."""
        return self._names[sample]

    def read(self, sample: int) -> bytes:
        number = int(self.labels[sample]) if self._is_folder else 0
        if number != self._reading:  # one open file for each process, however many tars there are
            self._archives[self._reading].release()
            self._reading = number
        offset, size = self._places[sample]
        return self._archives[number].read(int(offset), int(size), self._names[sample])

    def accounts(self) -> Accounts:
        return self._accounts

    def close(self) -> None:
        for archive in self._archives:
            archive.close()


class TarOfClass(NamedTuple):
    """Where the tar of a class lies: bytes start to start + size of a file. descriptor: of that file; None: not open yet."""

    name: str
    path: str
    descriptor: int | None
    start: int
    size: int


class ImagesOfClass(NamedTuple):
    """Names of the images of a class in torchvision's order; (images, 2) int64 offsets and sizes in the file."""

    names: list[str]
    places: NDArray[np.int64]
    accounts: Accounts


def tars_in_tar(archive: Archive) -> tuple[list[TarOfClass], Accounts]:
    """The tars in a tar, sorted by name, and what lies beside them. Raises UserError if there are none, or it is damaged."""
    path, descriptor = archive.path, archive.descriptor
    listing = list_tar(descriptor, 0, archive.size, str(path))
    inner = {posixpath.basename(name)[: -len(TAR)]: (at, size) for name, at, size in sorted(listing) if name.endswith(TAR)}
    if not inner:
        raise UserError(f"{path}: has no tars in it: want the archive as distributed, with a tar for each class")
    beside = [name for name in listing.names if not name.endswith(TAR)]
    left_out = listing.left_out() + left_out_for_names(beside)
    tars = [TarOfClass(name, str(path), descriptor, *inner[name]) for name in sorted(inner)]
    return tars, Accounts(len(beside) + len(listing.circles), left_out=left_out)


def images_of_class(tar: TarOfClass) -> ImagesOfClass:
    """Lists the images of one tar. Raises UserError if it is damaged or cannot be read."""
    if tar.start == NOWHERE:
        raise UserError(f"{tar.path}: {tar.name}.tar: is a link that leads nowhere in the archive; fetch it again")
    if tar.descriptor is not None:
        location = f"{tar.path}: {tar.name}.tar"
        return _images(list_tar(tar.descriptor, tar.start, tar.start + tar.size, location), tar.name)
    try:
        with open(tar.path, "rb", buffering=0) as file:  # noqa: PTH123  (of many thousand)
            return _images(list_tar(file.fileno(), 0, tar.size, tar.path), tar.name)
    except OSError as error:
        raise UserError(f"{tar.path}: cannot be read: {error.strerror or error}") from error


def _images(listing: TarListing, class_name: str) -> ImagesOfClass:
    images = sorted(
        (member for member in listing if not reason_to_leave_out(member[0])), key=lambda member: posixpath.split(member[0])
    )
    left_out = left_out_for_names((name for name in listing.names if reason_to_leave_out(name)), f"{class_name}/")
    left_out += [LeftOut(f"{class_name}/{entry.name}", entry.reason) for entry in listing.left_out()]
    accounts = Accounts(len(listing.names) + len(listing.circles), left_out=left_out)
    places = np.array([image[1:] for image in images], dtype=np.int64).reshape(-1, 2)
    return ImagesOfClass([image[0] for image in images], places, accounts)


def _tars_in_folder(root: Path) -> tuple[list[TarOfClass], Accounts]:
    """The tars in a folder, sorted by name, and what lies beside them; folders are left out with their files."""
    try:
        files, folders, left_out = entries_of(root)
        tars = [TarOfClass(name[: -len(TAR)], f"{root}/{name}", None, 0, os.stat(root / name).st_size)  # noqa: PTH116
                for name in files if name.endswith(TAR)]  # fmt: skip
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read: {error.strerror}") from error
    if not tars:
        raise UserError(f"{root}: has no tars in it: want NAME.tar for each class, or one tar that holds them")
    for name in folders:
        num_files = sum(len(names) for _, _, names in os.walk(root / name))
        left_out.append(LeftOut(f"{name}/", "a folder beside tars of classes", num_files))
    beside = [name for name in files if not name.endswith(TAR)]
    num_seen = len(beside) + sum(entry.num_files for entry in left_out)
    left_out += [LeftOut(name, "an image in no tar") for name in beside if not reason_to_leave_out(name)]
    left_out += left_out_for_names(name for name in beside if reason_to_leave_out(name))
    return tars, Accounts(num_seen, left_out=left_out)
