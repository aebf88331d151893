"""Writes Parquet shards in Hugging Face's layout as two betons: OUT/train.beton and OUT/val.beton.

    python write_datasets/write_parquet.py SHARDS OUT [--source.classes=NAMES.txt] [--write.OPTION=VALUE ...]

SHARDS is a folder with shards whose names tell their split, such as train-00000-of-00294.parquet and
validation-00000-of-00014.parquet, at any depth; or, in quotes, a pattern that finds them. val.beton is made of the validation
shards, or where there are none of the test shards.

The image column holds encoded images, as binary or as a struct of bytes and path; the label column numbers or strings. They
are found by their usual names (image, label ...) or as the only column of their type; --source.image_column=NAME and
--source.label_column=NAME name others. Class names are those that Hugging Face's description
in the files gives, or those of NAMES.txt, one a line; without both, numbers are their own names and strings are sorted.

A JPEG whose longest side is within 500 pixels keeps its pixels exactly: it is passed through, not decoded and encoded
again. Larger images are scaled down to 500 pixels and encoded as JPEG of quality 90. Other limits and qualities:
--write.max_resolution (or unlimited), --write.jpeg_quality; `deit-fast write --help` lists all options. --source.subset=N takes
N images of each of the two sets, from each class its share. Shards whose names tell no split are converted by
`deit-fast write --source.kind=parquet`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from conversion import Betons, convert, from_source, splits_for_betons

from deit_fast.data.convert.sources.shards import PARQUET_ENDINGS

DEFAULTS = {"--write.max_resolution": "500", "--write.jpeg_quality": "90"}


def main(argv: list[str]) -> int:
    """Converts both sets; gives the exit status, 0 when both betons are there."""
    return convert(argv, __doc__, DEFAULTS, betons)


def betons(shards: Path) -> Betons:
    """Raises UserError where there are no shards of train, or none of val and test."""
    return {name: from_source(shards, "parquet", split) for name, split in splits_for_betons(shards, PARQUET_ENDINGS).items()}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
