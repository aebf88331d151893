"""Reads ImageNet as distributed (ILSVRC2012 archives or Kaggle's folders) as a source; unpacks no images to disk."""

from __future__ import annotations

import posixpath
from pathlib import Path

import numpy as np

from deit_fast.config import UserError
from deit_fast.data.convert.sources.accounts import Accounts, add_up
from deit_fast.data.convert.sources.archives import Archive, in_processes
from deit_fast.data.convert.sources.base import Names, Source
from deit_fast.data.convert.sources.class_tars import images_of_class, tars_in_tar
from deit_fast.data.convert.sources.file_names import reason_to_leave_out
from deit_fast.data.convert.sources.files import Files, Tar, accounts_of_list, open_first
from deit_fast.data.convert.sources.kaggle import is_kaggle, open_kaggle
from deit_fast.data.convert.sources.matlab import matlab_field, matlab_variable

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
        path = self._archive.path
        tars, in_outer = tars_in_tar(self._archive)
        self.classes = tuple(tar.name for tar in tars)
        missing = sorted(set(wnids or []) - set(self.classes))
        if missing:
            raise UserError(f"{path}: {len(missing)} of {len(wnids or [])} tars are missing, the first is {missing[0]}.tar")
        listed = in_processes(images_of_class, tars)
        for wnid, images in zip(self.classes, listed, strict=True):
            if not images.names:
                raise UserError(f"{path}: {wnid}.tar: has no images; want the archive as distributed")
        self._names = Names(
            f"{wnid}/{name}" for wnid, images in zip(self.classes, listed, strict=True) for name in images.names
        )
        self._places = np.concatenate([images.places for images in listed])
        self.labels = np.repeat(np.arange(len(listed), dtype=np.int32), [len(images.names) for images in listed])
        self._accounts = add_up([in_outer, *(images.accounts for images in listed)])

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
