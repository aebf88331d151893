"""Writes Flowers-102 as two betons: OUT/train.beton (2,040 images) and OUT/val.beton (the 6,149 test images).

    python write_datasets/write_flowers102.py FLOWERS OUT [--write.OPTION=VALUE ...] [--source.subset=N]

FLOWERS is the folder with imagelabels.mat, setid.mat and either 102flowers.tgz or the folder jpg/ that is in it.

As in the DeiT paper, train.beton has the official training and validation images together. The official splits one by
one: `deit-fast write --source.kind=flowers102 --source.split=train` (or val, or test).

JPEGs keep their pixels exactly, whatever their size: they are passed through, not decoded and encoded again.
--write.max_resolution=500 scales larger ones down. `deit-fast write --help` lists all options.
"""

from __future__ import annotations

import sys
from pathlib import Path

from conversion import Betons, convert, from_source


def main(argv: list[str]) -> int:
    """Converts both sets; gives the exit status, 0 when both betons are there."""
    return convert(argv, __doc__, {}, betons)


def betons(flowers: Path) -> Betons:
    return {"train": from_source(flowers, "flowers102", "trainval"), "val": from_source(flowers, "flowers102", "test")}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
