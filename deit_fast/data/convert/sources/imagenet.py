"""Reads ImageNet as distributed (ILSVRC2012 archives or Kaggle's folders) as a source; unpacks no images to disk."""

from __future__ import annotations

import posixpath
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import UserError
from deit_fast.data.convert.sources.accounts import Accounts, LeftOut, add_up, left_out_for_names
from deit_fast.data.convert.sources.archives import Archive, in_processes
from deit_fast.data.convert.sources.base import Names, Source
from deit_fast.data.convert.sources.file_names import reason_to_leave_out
from deit_fast.data.convert.sources.files import Files, Tar, accounts_of_list, open_first
from deit_fast.data.convert.sources.kaggle import is_kaggle, open_kaggle
from deit_fast.data.convert.sources.matlab import matlab_field, matlab_variable
from deit_fast.data.convert.sources.tar_listing import NOWHERE, list_tar

TRAIN = "ILSVRC2012_img_train.tar"
VAL = "ILSVRC2012_img_val.tar"
DEVKITS = ("ILSVRC2012_devkit_t12.tar.gz", "ILSVRC2012_devkit_t12.tar", "ILSVRC2012_devkit_t12")


def open_imagenet(root: Path, split: str, scratch: Path | None = None) -> Source:
    """The images of one split, train or val. scratch: where the devkit, 2.5 MB, is unpacked while it is read.

    Classes (WNIDs), names (WNID/FILE), labels and order are those of the image folders that torchvision's ImageNet makes
    of the same archives. Raises UserError for another split, and if an archive is missing or damaged.
    """
    if split not in ("train", "val"):
        raise UserError(f"source.split={split}: ImageNet has no labels for it: want train or val")
    if is_kaggle(root):
        return open_kaggle(root, split)
    archive = root / (TRAIN if split == "train" else VAL)
    if not archive.is_file():
        raise UserError(
            f"{archive}: no such file; want the folder with the ILSVRC2012 archives as distributed, or with Kaggle's "
            "LOC_val_solution.csv and ILSVRC/"
        )
    devkit = open_first([root / name for name in DEVKITS], scratch)
    try:
        if split == "train":
            return ImageNetTrain(root, None if devkit is None else sorted(_wnids(devkit).values()))
        if devkit is None:
            raise UserError(f"{root / DEVKITS[0]}: no such file; want it for the labels of the validation images")
        return ImageNetVal(root, sorted(_wnids(devkit).values()), _val_wnids(devkit))
    finally:
        if devkit is not None:
            devkit.close()


class ImageNetTrain(Source):
    """The images in the tars, one for each class, in ILSVRC2012_img_train.tar. Each class in `wnids` must be there.

    Raises UserError with the name of an inner tar that is missing, truncated, or without images.
    """

    def __init__(self, root: Path, wnids: list[str] | None) -> None:
        self.location = str(root)
        self._archive = Archive(root / TRAIN)
        path, descriptor, end = self._archive.path, self._archive.descriptor, self._archive.size
        listing = list_tar(descriptor, 0, end, str(path))
        inner = {posixpath.basename(name)[:-4]: (at, size) for name, at, size in sorted(listing) if name.endswith(".tar")}
        beside = [name for name in listing.names if not name.endswith(".tar")]
        if not inner:
            raise UserError(f"{path}: has no tars in it: want the archive as distributed, with a tar for each class")
        missing = sorted(set(wnids or []) - set(inner))
        if missing:
            raise UserError(f"{path}: {len(missing)} of {len(wnids or [])} tars are missing, the first is {missing[0]}.tar")
        self.classes = tuple(sorted(inner))
        tasks = [(descriptor, *inner[wnid], f"{path}: {wnid}.tar") for wnid in self.classes]
        listed = in_processes(_images_of_class, tasks)
        self._names = Names(f"{wnid}/{name}" for wnid, (names, *_) in zip(self.classes, listed, strict=True) for name in names)
        self._places = np.concatenate([places for _, places, _ in listed])
        self.labels = np.repeat(np.arange(len(inner), dtype=np.int32), [len(names) for names, *_ in listed])
        left_out = listing.left_out() + left_out_for_names(beside)
        of_outer = Accounts(len(beside) + len(listing.circles), left_out=left_out)
        self._accounts = add_up([of_outer, *(accounts for _, _, accounts in listed)])

    def name(self, sample: int) -> str:
        """WNID/FILE, the path below the folder that the archive would unpack to."""
        return self._names[sample]

    def read(self, sample: int) -> bytes:
        offset, size = self._places[sample]
        return self._archive.read(int(offset), int(size), self._names[sample])

    def accounts(self) -> Accounts:
        return self._accounts

    def close(self) -> None:
        self._archive.close()


def _images_of_class(task: tuple[int, int, int, str]) -> tuple[list[str], NDArray[np.int64], Accounts]:
    """Names of the images of an inner tar, in torchvision's order; (images, 2) offsets and sizes."""
    descriptor, start, size, location = task
    if start == NOWHERE:
        raise UserError(f"{location}: is a link that leads nowhere in the archive; fetch it again")
    listing = list_tar(descriptor, start, start + size, location)
    images = sorted(
        (member for member in listing if not reason_to_leave_out(member[0])), key=lambda member: posixpath.split(member[0])
    )
    if not images:
        raise UserError(f"{location}: has no images; want the archive as distributed")
    wnid = location.rpartition(" ")[2].removesuffix(".tar")
    left_out = left_out_for_names((name for name in listing.names if reason_to_leave_out(name)), f"{wnid}/")
    left_out += [LeftOut(f"{wnid}/{entry.name}", entry.reason) for entry in listing.left_out()]
    accounts = Accounts(len(listing.names) + len(listing.circles), left_out=left_out)
    return [image[0] for image in images], np.array([image[1:] for image in images], dtype=np.int64), accounts


class ImageNetVal(Source):
    """The images in ILSVRC2012_img_val.tar, sorted by class and name. val_wnids: their classes in the order of the names.

    Raises UserError if there are not as many images as labels.
    """

    def __init__(self, root: Path, wnids: list[str], val_wnids: list[str]) -> None:
        self.location = str(root)
        self.classes = tuple(wnids)
        self._tar = Tar(root / VAL)
        names = [self._tar.names[number] for number in range(len(self._tar.names))]
        by_name = [number for number in range(len(names)) if not reason_to_leave_out(names[number])]
        by_name.sort(key=names.__getitem__)
        if len(by_name) != len(val_wnids):
            self._tar.close()
            raise UserError(f"{root / VAL}: has {len(by_name)} images, the devkit {len(val_wnids)} labels; fetch both again")
        label_of = {wnid: label for label, wnid in enumerate(wnids)}
        labels = np.array([label_of[wnid] for wnid in val_wnids], dtype=np.int32)
        order = np.argsort(labels, kind="stable")
        self.labels = labels[order]
        self._numbers = np.array(by_name, dtype=np.int64)[order]
        self._accounts = accounts_of_list(self._tar, self._numbers)

    def name(self, sample: int) -> str:
        """WNID/FILE, as the path below the folder that torchvision makes."""
        file = posixpath.basename(self._tar.names[int(self._numbers[sample])])
        return f"{self.classes[self.labels[sample]]}/{file}"

    def read(self, sample: int) -> bytes:
        return self._tar.read(int(self._numbers[sample]))

    def accounts(self) -> Accounts:
        return self._accounts

    def close(self) -> None:
        self._tar.close()


def _wnids(devkit: Files) -> dict[int, str]:
    """WNID of each ILSVRC2012 ID of an image class; the synsets above them, which have children, are left out."""
    location = f"{devkit.location}: meta.mat"
    synsets = matlab_variable(devkit.read_named("data/meta.mat"), location, "synsets")
    fields = [matlab_field(synsets, location, name) for name in ("ILSVRC2012_ID", "WNID", "num_children")]
    return {int(number): str(wnid) for number, wnid, children in zip(*fields, strict=True) if children == 0}


def _val_wnids(devkit: Files) -> list[str]:
    """WNID of each validation image, in the order of their names."""
    location = f"{devkit.location}: ILSVRC2012_validation_ground_truth.txt"
    wnids = _wnids(devkit)
    lines = devkit.read_named("data/ILSVRC2012_validation_ground_truth.txt").decode(errors="replace").split()
    unknown = [line for line in lines if not line.isdecimal() or int(line) not in wnids]
    if unknown:
        raise UserError(f"{location}: {unknown[0]!r} is not the ID of an image class in meta.mat; fetch it again")
    return [wnids[int(line)] for line in lines]
