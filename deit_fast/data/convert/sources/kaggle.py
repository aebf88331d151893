"""Reads Kaggle's distribution of ImageNet (object localization): folders, flat validation images, labels in a table."""

from __future__ import annotations

import csv
import io
import posixpath
from pathlib import Path

from deit_fast.config import UserError
from deit_fast.data.convert.sources.accounts import Accounts, LeftOut, left_out_for_names
from deit_fast.data.convert.sources.base import Names, Source
from deit_fast.data.convert.sources.class_names import positions
from deit_fast.data.convert.sources.file_names import reason_to_leave_out
from deit_fast.data.convert.sources.folder import ImageFolder
from deit_fast.data.convert.sources.walk import files_below
from deit_fast.data.format.files import read_file

SOLUTION, MAPPING = "LOC_val_solution.csv", "LOC_synset_mapping.txt"
IMAGES = ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", ".")


def is_kaggle(root: Path) -> bool:
    """Whether a folder holds the challenge's labels of the validation images."""
    return (root / SOLUTION).is_file()


def open_kaggle(root: Path, split: str) -> Source:
    """The images of train or val; classes (WNIDs), names, labels and order are those of the ILSVRC2012 archives.

    root: the folder with LOC_val_solution.csv and ILSVRC/Data/CLS-LOC/train and val, or train and val beside the table.
    Raises UserError if a folder is missing, or the table does not match its images.
    """
    folder = next((root / name / split for name in IMAGES if (root / name / split).is_dir()), None)
    if folder is None:
        raise UserError(f"{root}: has no folder {IMAGES[0]}/{split}: want the images of the challenge as distributed")
    return ImageFolder(folder) if split == "train" else _KaggleVal(root, folder)


class _KaggleVal(Source):
    """The flat validation images, sorted by class and name, as in an image folder."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.location = str(root)
        self._folder = folder
        wnids = _wnids_of_images(root / SOLUTION)
        files, left_out = files_below(folder)
        images = [path for path in files if not reason_to_leave_out(path)]
        known = {posixpath.splitext(posixpath.basename(path))[0]: path for path in images}
        missing = [name for name in wnids if name not in known]
        if missing:
            raise UserError(f"{folder}: {len(missing)} of {len(wnids)} images are missing, the first is {missing[0]}.JPEG")
        self.classes = _all_wnids(root, wnids)
        names = sorted(wnids, key=lambda name: (wnids[name], name))
        self._names = Names(known[name] for name in names)
        self.labels = positions([wnids[name] for name in names], self.classes, str(root / SOLUTION), MAPPING)
        num_seen = len(files) + sum(entry.num_files for entry in left_out)
        left_out += [LeftOut(path, f"not in {SOLUTION}") for path in sorted({*images} - {known[name] for name in names})]
        left_out += left_out_for_names(path for path in files if reason_to_leave_out(path))
        self._accounts = Accounts(num_seen, left_out=left_out)

    def name(self, sample: int) -> str:
        """WNID/FILE, as the path below an image folder."""
        return f"{self.classes[self.labels[sample]]}/{posixpath.basename(self._names[sample])}"

    def read(self, sample: int) -> bytes:
        return read_file(f"{self._folder}/{self._names[sample]}")

    def accounts(self) -> Accounts:
        return self._accounts


def _wnids_of_images(table: Path) -> dict[str, str]:
    """WNID of each image, from a table with the columns ImageId and PredictionString (`WNID x y x y`, repeated)."""
    rows = list(csv.DictReader(io.StringIO(_text(table))))
    wnids = {}
    for line, row in enumerate(rows, 2):
        name, boxes = row.get("ImageId"), (row.get("PredictionString") or "").split()
        if not name or not boxes:
            raise UserError(f"{table}: line {line} has no ImageId or no PredictionString that begins with a WNID")
        wnids[name] = boxes[0]
    if not wnids:
        raise UserError(f"{table}: has no rows: want the columns ImageId and PredictionString")
    return wnids


def _all_wnids(root: Path, of_images: dict[str, str]) -> tuple[str, ...]:
    """The WNIDs at the starts of LOC_synset_mapping.txt's lines, sorted; without that file, those of the images."""
    mapping = root / MAPPING
    if not mapping.is_file():
        return tuple(sorted({*of_images.values()}))
    return tuple(sorted(line.split()[0] for line in _text(mapping).splitlines() if line.strip()))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text: {error}") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
