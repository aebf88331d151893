"""Takes an image folder in torchvision's layout, gives it as a source: one class for each folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn

import numpy as np

from deit_fast.config import UserError
from deit_fast.data.files import read_file
from deit_fast.data.sources.base import Names, Source

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's


class ImageFolder(Source):
    """Images in one folder for each class: same classes, files and order as torchvision.datasets.ImageFolder.

    Files are told by their extension alone, whatever its case, at any depth in a class folder. Raises UserError for a
    folder that is missing, has no class folders, or has a class folder without images.
    """

    def __init__(self, root: Path) -> None:
        self.location = str(root)
        self.classes = class_folders(root)
        self._root = root
        names: list[str] = []
        counts = []
        for name in self.classes:
            paths = _image_files(root, name)
            if not paths:
                wanted = " ".join(IMAGE_EXTENSIONS)
                raise UserError(f"{root / name}: class folder without images; want files ending in {wanted}")
            names.extend(paths)
            counts.append(len(paths))
        self._names = Names(names)
        self.labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)

    def name(self, sample: int) -> str:
        """The path below the folder."""
        return self._names[sample]

    def read(self, sample: int) -> bytes:
        return read_file(f"{self._root}/{self._names[sample]}")


def class_folders(root: Path) -> tuple[str, ...]:
    """Names of the class folders, sorted. Raises UserError where there is no folder or no class folder in it."""
    if not root.exists():
        raise UserError(f"{root}: no such folder; want an image folder with one folder for each class")
    if not root.is_dir():
        raise UserError(f"{root}: is not a folder; want an image folder with one folder for each class")
    try:
        classes = tuple(sorted(entry.name for entry in root.iterdir() if entry.is_dir()))
    except OSError as error:
        _refuse(error)
    if not classes:
        raise UserError(f"{root}: has no class folders; want one folder for each class, with image files inside")
    return classes


def _image_files(root: Path, class_name: str) -> list[str]:
    """Paths below root of the images in a class folder, in the order in which torchvision lists them."""
    walk = os.walk(root / class_name, onerror=_refuse, followlinks=True)
    return [
        str(Path(parent).relative_to(root) / name)
        for parent, _, names in sorted(walk)
        for name in sorted(names)
        if name.lower().endswith(IMAGE_EXTENSIONS)
    ]


def _refuse(error: OSError) -> NoReturn:
    raise UserError(f"{error.filename}: cannot be read: {error.strerror}") from error
