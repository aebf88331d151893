"""Writes ImageNet-21k, from its tars or image folders, as two betons: OUT/train.beton and OUT/val.beton.

    python write_datasets/write_imagenet21k.py IMAGENET21K OUT [--source.classes=NAMES.txt] [--write.OPTION=VALUE ...]

IMAGENET21K is the folder that holds the training images as one of
    winter21_whole.tar.gz, winter21_whole.tar or fall11_whole.tar, as they are distributed, with a tar for each class; or
    train/ with a tar or a folder for each class,
and the validation images as val/ with a tar or a folder for each class. Tars are read where they are; of a compressed file,
which has to be unpacked to be read at any place, an unnamed copy lies in its folder, or in TMPDIR, as long as it is read.

ImageNet-21k has no validation set of its own. DeiT III's authors took ImageNet-1k's: links in val/ to those of its class
folders that train/ has will do. val.beton gets the classes of train/; beside one archive, which names them only inside, give
--source.classes=NAMES.txt with a class a line for both. `deit-fast write --source.kind=tars` converts training images alone.

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
from deit_fast.data.convert.sources.class_names import TAR

ARCHIVES = ("winter21_whole.tar.gz", "winter21_whole.tar", "fall11_whole.tar")
DEFAULTS = {"--write.max_resolution": "500", "--write.jpeg_quality": "90"}


def main(argv: list[str]) -> int:
    """Converts both sets; gives the exit status, 0 when both betons are there."""
    return convert(argv, __doc__, DEFAULTS, betons)


def betons(imagenet21k: Path) -> Betons:
    """Raises UserError where there are no training or no validation images."""
    train, val = imagenet21k / "train", imagenet21k / "val"
    archive = next((imagenet21k / name for name in ARCHIVES if (imagenet21k / name).is_file()), None)
    if archive is None and not train.is_dir():
        raise UserError(f"{imagenet21k}: has neither {', '.join(ARCHIVES)} nor a folder train/; see --help for the layouts")
    if not val.is_dir():
        raise UserError(f"{val}: no such folder; want validation images of the same classes; see --help")
    of_train = from_source(train, _kind(train)) if archive is None else from_source(archive, "tars")
    return {"train": of_train, "val": from_source(val, _kind(val), classes=train if archive is None else "")}


def _kind(folder: Path) -> str:
    """The kind of source in a folder: tars where one lies in it, else folders of images."""
    return "tars" if any(name.suffix == TAR for name in folder.iterdir()) else "folder"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
