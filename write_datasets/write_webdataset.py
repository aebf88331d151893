"""Writes tar shards in WebDataset's layout as two betons: OUT/train.beton and OUT/val.beton.

    python write_datasets/write_webdataset.py SHARDS OUT [--source.classes=NAMES.txt] [--write.OPTION=VALUE ...]

SHARDS is a folder with shards whose names tell their split, such as train-00000-of-00294.tar and
validation-00000-of-00014.tar, at any depth; or, in quotes, a pattern that finds them. val.beton is made of the validation
shards, or where there are none of the test shards.

A sample is an image and its label with the same name but for the extension: KEY.jpg and the number or the name of its
class in KEY.cls, or under label, cls or class_id in KEY.json. Other files of a key, such as KEY.seg.png, may lie beside
them. Class names are those of NAMES.txt, one a line; without it, the numbers, or the names in alphabetical order.

A JPEG whose longest side is within 500 pixels keeps its pixels exactly: it is passed through, not decoded and encoded
again. Larger images are scaled down to 500 pixels and encoded as JPEG of quality 90. Other limits and qualities:
--write.max_resolution (or unlimited), --write.jpeg_quality; `deit-fast write --help` lists all options. --source.subset=N takes
N images of each of the two sets, from each class its share. Shards whose names tell no split are converted by
`deit-fast write --source.kind=webdataset`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from conversion import Betons, convert, from_source, splits_for_betons

from deit_fast.data.convert.sources.shards import TAR_ENDINGS

DEFAULTS = {"--write.max_resolution": "500", "--write.jpeg_quality": "90"}


def main(argv: list[str]) -> int:
    """Converts both sets; gives the exit status, 0 when both betons are there."""
    return convert(argv, __doc__, DEFAULTS, betons)


def betons(shards: Path) -> Betons:
    """Raises UserError where there are no shards of train, or none of val and test."""
    return {name: from_source(shards, "webdataset", split) for name, split in splits_for_betons(shards, TAR_ENDINGS).items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
