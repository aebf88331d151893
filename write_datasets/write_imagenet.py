"""Writes ImageNet, from its archives or image folders, as two betons: OUT/train.beton and OUT/val.beton.

    python write_datasets/write_imagenet.py IMAGENET OUT [--write.OPTION=VALUE ...] [--source.subset=N]

IMAGENET is the folder that holds one of
    ILSVRC2012_img_train.tar, ILSVRC2012_img_val.tar and ILSVRC2012_devkit_t12.tar.gz, as they are distributed;
    LOC_val_solution.csv and ILSVRC/Data/CLS-LOC/ as Kaggle distributes them; or
    train/ and val/ in torchvision's layout: one folder for each class, the same ones in both, or fewer in val/.
Archives are read where they are: nothing is unpacked. Classes, labels and the order of the images are the same in all three.

A JPEG whose longest side is within 500 pixels keeps its pixels exactly: it is passed through, not decoded and encoded
again. Larger images are scaled down to 500 pixels and encoded as JPEG of quality 90. Other limits and qualities:
--write.max_resolution (or unlimited), --write.jpeg_quality; `deit-fast write --help` lists all options. --source.subset=N takes
N images of each of the two sets, from each class its share.
"""

from __future__ import annotations

import sys
from pathlib import Path

from conversion import Betons, convert, from_source

from deit_fast.config import UserError
from deit_fast.data.convert.sources.folder import class_folders
from deit_fast.data.convert.sources.imagenet import TRAIN, VAL
from deit_fast.data.convert.sources.kaggle import is_kaggle

DEFAULTS = {"--write.max_resolution": "500", "--write.jpeg_quality": "90"}


def main(argv: list[str]) -> int:
    """Converts both sets; gives the exit status, 0 when both betons are there."""
    return convert(argv, __doc__, DEFAULTS, betons)


def betons(imagenet: Path) -> Betons:
    """Raises UserError where there are neither both archives nor image folders with the same classes."""
    archives = {name: imagenet / name for name in (TRAIN, VAL)}
    if any(archive.is_file() for archive in archives.values()):
        missing = [str(archive) for archive in archives.values() if not archive.is_file()]
        if missing:
            raise UserError(f"{missing[0]}: no such file; want both archives, {TRAIN} and {VAL}, in one folder")
        return {split: from_source(imagenet, "imagenet", split) for split in ("train", "val")}
    if is_kaggle(imagenet):
        return {split: from_source(imagenet, "imagenet", split) for split in ("train", "val")}
    if not (imagenet / "train").is_dir():
        raise UserError(f"{imagenet}: has neither the archive {TRAIN} nor a folder train/; see --help for the layouts")
    folders = {split: imagenet / split for split in ("train", "val")}
    train, val = (class_folders(folder) for folder in folders.values())
    unknown = sorted({*val} - {*train})
    if unknown:
        raise UserError(
            f"{imagenet}: train has {len(train)} class folders and val has {len(val)}; {unknown[0]!r} is in val alone; want "
            "the same class folders in both, or fewer in val"
        )
    classes = folders["train"] if val != train else ""
    return {"train": from_source(folders["train"], "folder"), "val": from_source(folders["val"], "folder", classes=classes)}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
