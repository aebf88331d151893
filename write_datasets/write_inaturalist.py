"""Writes iNaturalist 2018 or 2019 as two betons: OUT/train.beton and OUT/val.beton.

    python write_datasets/write_inaturalist.py INATURALIST OUT [--write.OPTION=VALUE ...] [--source.subset=N]

INATURALIST is the folder with train2018.json and val2018.json (or each as .json.tar.gz) and the images, in the folder
train_val2018/ or in train_val2018.tar.gz; or the same of 2019. The compressed archive is unpacked for each of the two sets
into a nameless file beside it (where that cannot be written, in the folder TMPDIR), which takes as much space again and is
gone at the end; unpacking it once beforehand is quicker.

JPEGs keep their pixels exactly, whatever their size: they are passed through, not decoded and encoded again.
--write.max_resolution=500 scales larger ones down. `deit-fast write --help` lists all options.
"""

from __future__ import annotations

import sys
from pathlib import Path

from conversion import Betons, convert, from_source

from deit_fast.config import UserError

YEARS = ("2018", "2019")


def main(argv: list[str]) -> int:
    """Converts both sets; gives the exit status, 0 when both betons are there."""
    return convert(argv, __doc__, {}, betons)


def betons(inaturalist: Path) -> Betons:
    """Raises UserError where there are the annotations of neither year, or of both."""
    years = [year for year in YEARS if list(inaturalist.glob(f"train{year}.json*"))]
    if len(years) != 1:
        found = "both train2018.json and train2019.json" if years else "neither train2018.json nor train2019.json"
        raise UserError(f"{inaturalist}: has {found}: want one of them, with the images beside it")
    return {split: from_source(inaturalist, f"inat{years[0]}", split) for split in ("train", "val")}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
