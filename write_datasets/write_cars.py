"""Writes Stanford Cars as two betons: OUT/train.beton (8,144 images) and OUT/val.beton (the 8,041 test images).

    python write_datasets/write_cars.py CARS OUT [--write.OPTION=VALUE ...] [--source.subset=N]

CARS is the folder with cars_train.tgz and cars_test.tgz or the folders cars_train/ and cars_test/ that are in them,
car_devkit.tgz or its folder devkit/, and cars_test_annos_withlabels.mat, beside these or in devkit/; or the folder above,
where it is called stanford_cars.

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


def betons(cars: Path) -> Betons:
    return {"train": from_source(cars, "cars", "train"), "val": from_source(cars, "cars", "test")}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
