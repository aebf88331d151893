"""Takes ImageNet as image folders, gives two betons: train and val become OUT_FOLDER/train.beton and val.beton.

    python write_datasets/write_imagenet.py IMAGENET_FOLDER OUT_FOLDER [--write.OPTION=VALUE ...]

IMAGENET_FOLDER/train and IMAGENET_FOLDER/val are in torchvision's layout: one folder for each class, the same ones in
both. Images whose longest side is over 500 pixels are scaled down to that, and all are stored as JPEG of quality 90,
unless --write.max_resolution, --write.jpeg_quality or --write.mode on the command line say otherwise; `deit-fast write
--help` lists the options.
"""

from __future__ import annotations

import sys
from pathlib import Path

from deit_fast.__main__ import main as deit_fast
from deit_fast.config import UserError
from deit_fast.data.sources import class_folders

DEFAULTS = {"--write.max_resolution": "500", "--write.jpeg_quality": "90"}


def main(argv: list[str]) -> int:
    """Converts both sets; gives the exit status, 0 when both betons are there."""
    if "--help" in argv or "-h" in argv:
        print(__doc__)
        return 0
    try:
        source, out, options = _split(argv)
        _check_source(source)
        _make_folder(out)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    for name in ("train", "val"):
        status = deit_fast(["write", f"--write.source={source / name}", f"--write.out={out / name}.beton", *options])
        if status != 0:
            return status
    return 0


def _split(argv: list[str]) -> tuple[Path, Path, list[str]]:
    """The two folders, and the options with the defaults for those that are not given."""
    if len(argv) < 2 or any(word.startswith("-") for word in argv[:2]):
        raise UserError("usage: write_imagenet.py IMAGENET_FOLDER OUT_FOLDER [--write.OPTION=VALUE ...]")
    options = argv[2:]
    given = {word.partition("=")[0] for word in options}
    for name in ("--write.source", "--write.out"):
        if name in given:
            raise UserError(f"{name} is not an option here: the two folders say where images come from and betons go")
    defaults = [f"{name}={value}" for name, value in DEFAULTS.items() if name not in given]
    return Path(argv[0]), Path(argv[1]), defaults + options


def _check_source(source: Path) -> None:
    """Raises UserError where train or val is missing, or their class folders differ."""
    train, val = (class_folders(source / name) for name in ("train", "val"))
    differing = sorted(set(train) ^ set(val))
    if differing:
        where = "train" if differing[0] in train else "val"
        raise UserError(
            f"{source}: train has {len(train)} class folders and val has {len(val)}; {differing[0]!r} is in {where} "
            "alone; want the same class folders in both"
        )


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out}: cannot be made a folder: {error.strerror}") from error


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
