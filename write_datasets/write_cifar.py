"""Writes CIFAR-10 or CIFAR-100 as two betons: OUT/train.beton (50,000 images) and OUT/val.beton (the 10,000 test images).

    python write_datasets/write_cifar.py CIFAR OUT [--write.OPTION=VALUE ...] [--source.subset=N]

CIFAR is the Python version of one of the two: cifar-10-python.tar.gz or cifar-100-python.tar.gz, the folder that is in
it (cifar-10-batches-py, cifar-100-python), or a folder that holds one of these. Of CIFAR-100 the labels are the 100 fine
classes.

Images are stored as raw pixels, 3,072 bytes each, exactly as they are; --write.mode=jpg stores JPEGs. `deit-fast write
--help` lists all options.
"""

from __future__ import annotations

import sys
from pathlib import Path

from conversion import Betons, convert, from_source

from deit_fast.data.convert.sources.cifar import cifar_kind

DEFAULTS = {"--write.mode": "raw"}


def main(argv: list[str]) -> int:
    """Converts both sets; gives the exit status, 0 when both betons are there."""
    return convert(argv, __doc__, DEFAULTS, betons)


def betons(cifar: Path) -> Betons:
    """Raises UserError where there is no CIFAR, or both."""
    kind = cifar_kind(cifar)
    return {"train": from_source(cifar, kind, "train"), "val": from_source(cifar, kind, "test")}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
