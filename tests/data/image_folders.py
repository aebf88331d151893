"""Image folders for tests, small and smooth, so that JPEG keeps them within a few grey levels; and their conversion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deit_fast.config import SourceConfig, WriteConfig
from deit_fast.data.convert.write import write_beton


def smooth_image(number: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    """A different slow wave in each channel, different for each number; uint8 (height, width, 3)."""
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin((x * (3 + channel) + y * (1 + number % 5)) / 40 + number) for channel in range(3)]
    return np.stack([127.5 + 100 * wave for wave in waves], axis=-1).astype(np.uint8)


def make_images(root: Path, classes: dict[str, int] | None = None, height: int = 48, width: int = 64) -> Path:
    """Makes a folder with so many PNGs in each class folder, smooth_image 0, 1, … in the order of the samples."""
    number = 0
    for class_name, num_images in (classes or {"cat": 5, "dog": 4, "elk": 3}).items():
        (root / class_name).mkdir(parents=True)
        for index in range(num_images):
            image = smooth_image(number, height, width)
            Image.fromarray(image).save(root / class_name / f"{index:04}.png", compress_level=1)
            number += 1
    return root


def make_images_with_bad_ones(root: Path) -> Path:
    """The folder of make_images, and in each class a file more that does not decode."""
    make_images(root)
    (root / "cat" / "0002x.jpg").write_text("not an image")
    (root / "dog" / "0000a.png").write_bytes((root / "dog" / "0000.png").read_bytes()[:300])
    (root / "elk" / "zz.jpeg").touch()
    return root


def convert(source: Path, out: Path, **options: Any) -> dict[str, Any]:
    """write_beton with one worker, for each is a fork of this process, unless options say otherwise; gives the manifest."""
    return write_beton(SourceConfig(path=str(source)), WriteConfig(**{"out": str(out), "num_workers": 1, **options}))
