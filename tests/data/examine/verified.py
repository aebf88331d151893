"""Betons to verify: tiny ones of ours and of stock FFCV, copies of them, and what is found wrong with one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
from ffcv.fields import BytesField, FloatField, IntField, RGBImageField
from ffcv.writer import MIN_PAGE_SIZE, DatasetWriter
from PIL import Image

from deit_fast.config import VerifyConfig
from deit_fast.data.examine.verify import check_beton
from deit_fast.data.format.beton import manifest_path
from tests.data.image_folders import smooth_image

SMALL_PAGE = 1 << 12  # so that a tiny beton has gaps between its images


def make_tiny_images(root: Path) -> Path:
    """12 images of 16 to 40 pixels in three classes, PNG and JPEG with and without restart markers to be put in."""
    for number in range(12):
        folder = root / ("cat", "dog", "elk")[number // 4]
        folder.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(smooth_image(number, 16 + 2 * number, 40 - 2 * number))
        image.save(folder / f"{number:02}.{'png' if number % 3 == 2 else 'jpg'}", quality=90)
    return root


def check(path: Path, against: Path | None = None) -> list[tuple[int | None, str]]:
    """What is found wrong, in this process."""
    found = check_beton(VerifyConfig(beton=str(path), against=str(against or ""), num_workers=1))["problems"]
    return [(problem["sample"], problem["what"]) for problem in found]


class Samples:
    """An indexable data set for stock FFCV."""

    def __init__(self, with_note: bool) -> None:
        self.note = (np.arange(9, dtype=np.uint8), 0.5) if with_note else ()

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[object, ...]:
        return (smooth_image(index, 20 + index, 30 + index), index % 3, *self.note)


def write_stock(path: Path, mode: str, with_note: bool = False) -> None:
    """Has FFCV's own writer write six images and labels. with_note: two fields more, of bytes and of a number."""
    fields = {"image": RGBImageField(mode), "label": IntField()}
    fields |= {"note": BytesField(), "weight": FloatField()} if with_note else {}
    DatasetWriter(str(path), fields, page_size=MIN_PAGE_SIZE, num_workers=1).from_indexed_dataset(Samples(with_note))


def copy(beton: Path, folder: Path, with_manifest: bool = True) -> Path:
    """A copy of the beton in the folder, under the same name."""
    target = Path(shutil.copy(beton, folder / beton.name))
    if with_manifest:
        shutil.copy(manifest_path(beton), manifest_path(target))
    return target
