"""Cuts an image folder out of large photographs, each of them one class.

A photograph is split into two regions, with a margin between them: a strip at its left or right end, for validation, and the
rest, for training. A crop lies wholly in one region, so that no pixel is in both. The strip is upright because photographs
change from top to bottom, from sky to ground: cut so, both regions have some of each.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

from deit_fast.config import UserError
from deit_fast.cores import num_cores

SIDE = 224  # pixels, of the images that are written
NUM_IMAGES = {"train": 8000, "val": 2000}  # of all classes
MIN_WIDTH, MIN_HEIGHT = 640, 320  # pixels, of a photograph
MAX_CLASSES = 1000  # so that each has an image for validation at least
_SUFFIXES = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp")
_VAL_SHARE = 0.2  # of the width
_MARGIN_SHARE, _LEAST_MARGIN = 0.02, 16  # of the width; in pixels, as many as a block of JPEG has at most
_LARGEST, _SMALLEST = 0.85, 0.3  # sides of crops, as shares of the narrower side of the validation strip
_QUALITY = 90
_SUBSAMPLING = "4:2:0"
_SEED = 0


class Box(NamedTuple):
    """Pixels of a photograph, from left and top up to, not including, right and bottom."""

    left: int
    top: int
    right: int
    bottom: int


@dataclass(frozen=True)
class Regions:
    """Where the crops of a photograph may lie, and the range of their sides in pixels, the same for both regions."""

    train: Box
    val: Box
    smallest: int
    largest: int


def find_photographs(folder: Path) -> dict[str, Path]:
    """The photographs in a folder, by their names without suffix, sorted; hidden files and other kinds are left out.

    Raises UserError if there are fewer than 2 or more than 1000, or two of the same name.
    """
    if not folder.is_dir():
        raise UserError(f"demo.photographs={folder}: is no folder; want a folder of large photographs, one for each class")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and not path.name.startswith("."))
    found: dict[str, Path] = {}
    for path in files:
        if path.stem in found:
            raise UserError(f"{path}: {found[path.stem].name} has the same name; want a name of its own for each class")
        found[path.stem] = path
    if not 2 <= len(found) <= MAX_CLASSES:
        kinds = ", ".join(_SUFFIXES)
        raise UserError(f"demo.photographs={folder}: has {len(found):,} photographs ({kinds}); want 2 to {MAX_CLASSES:,}")
    return found


def make_photos(folder: Path, photographs: Mapping[str, Path], num_images: Mapping[str, int] = NUM_IMAGES) -> tuple[int, int]:
    """Writes crops of photographs as 224x224 JPEGs in folder/train/CLASS and folder/val/CLASS; gives the number of each.

    photographs: the file of each class, by its name. num_images: of both splits, divided evenly among the classes and rounded
    down. A class depends on its name, its photograph and its number of images alone. Raises UserError for a photograph that
    does not decode or is too small.
    """
    each = {split: num // len(photographs) for split, num in num_images.items()}
    make = partial(make_class, folder, each)
    processes = min(num_cores(), len(photographs))
    # spawn, because a fork would lose the caller's threads; Ctrl-C is left to the caller
    pool = ProcessPoolExecutor(processes, get_context("spawn"), signal.signal, (signal.SIGINT, signal.SIG_IGN))
    try:
        list(pool.map(make, photographs, photographs.values()))
    finally:
        pool.shutdown(cancel_futures=True)
    return each["train"] * len(photographs), each["val"] * len(photographs)


def make_class(folder: Path, num_images: Mapping[str, int], name: str, path: Path) -> None:
    """Writes the images of one class; its name alone seeds the regions and crops. num_images: of each split."""
    photograph = _read(path)
    generator = np.random.Generator(np.random.PCG64([_SEED, *name.encode()]))
    regions = regions_of(*photograph.size, generator)
    for split, region in (("train", regions.train), ("val", regions.val)):
        target = folder / split / name
        target.mkdir(parents=True)
        crops = draw_crops(region, regions.smallest, regions.largest, num_images[split], generator)
        for number, crop in enumerate(crops):
            image = photograph.crop(crop).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            image.save(target / f"{number:04d}.jpg", quality=_QUALITY, subsampling=_SUBSAMPLING)


def regions_of(width: int, height: int, generator: np.random.Generator) -> Regions:
    """Splits a photograph of this size in pixels; the generator draws the end at which the strip for validation lies."""
    strip, margin = int(width * _VAL_SHARE), max(_LEAST_MARGIN, int(width * _MARGIN_SHARE))
    rest = width - strip - margin
    if generator.random() < 0.5:
        val, train = Box(0, 0, strip, height), Box(width - rest, 0, width, height)
    else:
        train, val = Box(0, 0, rest, height), Box(width - strip, 0, width, height)
    narrower = min(strip, height)
    return Regions(train, val, int(narrower * _SMALLEST), int(narrower * _LARGEST))


def draw_crops(region: Box, smallest: int, largest: int, count: int, generator: np.random.Generator) -> Iterator[Box]:
    """Squares in a region, with sides from smallest to largest pixels, uniform in their logarithm, at uniform positions."""
    for _ in range(count):
        side = round(float(np.exp(generator.uniform(np.log(smallest), np.log(largest)))))
        left = int(generator.integers(region.left, region.right - side, endpoint=True))
        top = int(generator.integers(region.top, region.bottom - side, endpoint=True))
        yield Box(left, top, left + side, top + side)


def _read(path: Path) -> Image.Image:
    """A photograph upright and in RGB."""
    try:
        with Image.open(path) as opened:
            photograph = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: does not decode as a photograph ({error}); take it out of its folder") from error
    width, height = photograph.size
    if width < MIN_WIDTH or height < MIN_HEIGHT:
        raise UserError(f"{path}: has {width}x{height} pixels; want at least {MIN_WIDTH}x{MIN_HEIGHT}, or take it out")
    return photograph
