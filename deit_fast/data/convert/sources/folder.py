"""Reads an image folder in torchvision's layout: one class for each folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from deit_fast.config import UserError
from deit_fast.data.convert.sources.accounts import IN_A_CIRCLE, Accounts, LeftOut, add_up, left_out_for_names
from deit_fast.data.convert.sources.base import Names, Source
from deit_fast.data.convert.sources.file_names import IMAGE_EXTENSIONS, reason_to_leave_out
from deit_fast.data.convert.sources.shards import SPLIT_OF_WORD
from deit_fast.data.convert.sources.walk import entries_of, files_below, is_in_a_circle
from deit_fast.data.format.files import read_file


class ImageFolder(Source):
    """Images in one folder for each class: same classes, files and order as torchvision.datasets.ImageFolder.

    Only the extension, in any case, marks a file as an image, at any depth in a class folder. Unlike in torchvision, an empty
    class folder is a class without images, and hidden and system folders are left out.

    Raises UserError for a folder that is missing, or has no class folders or no images.
    """

    def __init__(self, root: Path) -> None:
        self.location = str(root)
        self.classes, in_root = _classes(root)
        self._root = root
        names: list[str] = []
        counts = []
        all_accounts = [in_root]
        for name in self.classes:
            found, left_out = files_below(root / name, f"{name}/", inside=root)
            images = [path for path in found if not reason_to_leave_out(path)]
            others = [path for path in found if reason_to_leave_out(path)]
            num_seen = len(found) + sum(entry.num_files for entry in left_out)
            all_accounts.append(Accounts(num_seen, left_out=left_out + left_out_for_names(others)))
            names.extend(images)
            counts.append(len(images))
        if not names:
            wanted = " ".join(IMAGE_EXTENSIONS)
            raise UserError(f"{root}: class folders without images; want files in them that end in {wanted}")
        self._accounts = add_up(all_accounts)
        self._names = Names(names)
        self.labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)

    def name(self, sample: int) -> str:
        """The path below the folder."""
        return self._names[sample]

    def read(self, sample: int) -> bytes:
        return read_file(f"{self._root}/{self._names[sample]}")

    def accounts(self) -> Accounts:
        return self._accounts


def class_folders(root: Path) -> tuple[str, ...]:
    """Names of the class folders, sorted. Raises UserError if there is no folder or no class folder in it."""
    return _classes(root)[0]


def _classes(root: Path) -> tuple[tuple[str, ...], Accounts]:
    """Names of the class folders, and what lies beside them; a warning if they look like the splits of a data set."""
    if not root.exists():
        raise UserError(f"{root}: no such folder; want an image folder with one folder for each class")
    if not root.is_dir():
        raise UserError(f"{root}: is not a folder; want an image folder with one folder for each class")
    try:
        files, folders, left_out = entries_of(root)
        circles = [name for name in folders if is_in_a_circle(root / name, root)]
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read: {error.strerror}") from error
    classes = tuple(name for name in folders if name not in circles)
    if not classes:
        raise UserError(f"{root}: has no class folders; want one folder for each class, with image files inside")
    left_out += [LeftOut(name, IN_A_CIRCLE) for name in circles]
    num_seen = len(files) + sum(entry.num_files for entry in left_out)
    left_out += [LeftOut(name, "an image in no class folder") for name in files if not reason_to_leave_out(name)]
    left_out += left_out_for_names(name for name in files if reason_to_leave_out(name))
    splits = [name for name in classes if name.lower() in SPLIT_OF_WORD]
    warnings = []
    if splits:
        warnings = [
            f"{root}: has class folders named {', '.join(splits)}, as splits of a data set are; to convert one split, give "
            f"its folder: --source.path={root / splits[0]}"
        ]
    return classes, Accounts(num_seen, left_out=left_out, warnings=warnings)
