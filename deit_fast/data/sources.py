"""Takes an image folder in torchvision's layout, gives its classes, its samples and their pixels."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from deit_fast.config import UserError

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's


class BadImage(ValueError):
    """A file that does not decode completely to an image, with the reason in one line."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


@dataclass(frozen=True)
class ImageFolder:
    """Images in one folder for each class. A sample is (path, label); a label is a position in `classes`."""

    root: Path
    classes: tuple[str, ...]
    samples: list[tuple[str, int]]


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


def open_image_folder(root: Path) -> ImageFolder:
    """Lists an image folder: same classes, files and order as torchvision.datasets.ImageFolder.

    Files are told by their extension alone, whatever its case, at any depth in a class folder. Raises UserError for a
    folder that is missing, has no class folders, or has a class folder without images.
    """
    classes = class_folders(root)
    samples: list[tuple[str, int]] = []
    for label, name in enumerate(classes):
        paths = _image_files(root / name)
        if not paths:
            wanted = " ".join(IMAGE_EXTENSIONS)
            raise UserError(f"{root / name}: class folder without images; want files ending in {wanted}")
        samples.extend((path, label) for path in paths)
    return ImageFolder(root, classes, samples)


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """Decodes a file with Pillow to uint8 RGB pixels (height, width, 3), grey and palette images and CMYK converted.

    The EXIF orientation is not applied, as in torchvision's loader. Raises BadImage for a file that does not decode to
    its end: another kind of file, a truncated or empty one, one that cannot be read, one over Pillow's limit of pixels.
    """
    try:
        if Path(path).stat().st_size == 0:
            raise BadImage(str(path), "empty file")
        with Image.open(path) as image:
            return np.array(image.convert("RGB"))
    except (BadImage, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise BadImage(str(path), "not an image that Pillow knows") from error
    except Exception as error:  # Pillow's decoders raise what they stumble on: OSError, SyntaxError, struct.error …
        reason = " ".join(str(error).replace(str(path), "").split())
        raise BadImage(str(path), f"{type(error).__name__}: {reason}") from error


def scale_down(image_HWC: NDArray[np.uint8], max_resolution: int) -> NDArray[np.uint8]:
    """Bicubic with antialiasing, as Pillow resizes, to a longest side of max_resolution pixels; smaller images as is.

    The aspect is kept: the shorter side is rounded to the nearest pixel, at least 1. 0 means no limit.
    """
    height, width = image_HWC.shape[:2]
    longest = max(height, width)
    if not 0 < max_resolution < longest:
        return image_HWC
    size = tuple(max(1, round(side * max_resolution / longest)) for side in (width, height))
    return np.array(Image.fromarray(image_HWC).resize((size[0], size[1]), Image.Resampling.BICUBIC))


def _image_files(folder: Path) -> list[str]:
    walk = os.walk(folder, onerror=_refuse, followlinks=True)
    return [
        str(Path(parent) / name)
        for parent, _, names in sorted(walk)
        for name in sorted(names)
        if name.lower().endswith(IMAGE_EXTENSIONS)
    ]


def _refuse(error: OSError) -> NoReturn:
    raise UserError(f"{error.filename}: cannot be read: {error.strerror}") from error
