"""Resizes with Pillow, rows before columns, as our kernels do, whatever Pillow's version."""

from __future__ import annotations

from PIL import Image


def resized(
    image: Image.Image,
    size: tuple[int, int],
    resample: Image.Resampling = Image.Resampling.BICUBIC,
    box: tuple[float, float, float, float] | None = None,
) -> Image.Image:
    """`image.resize(size, resample, box)` with rows first, then columns, as Pillow up to 12 has it.

    Pillow 13 begins with the pass that leaves less for the other; for tall images that changes up to two levels.
    """
    left, top, right, bottom = box or (0, 0, *image.size)
    rows = image.resize((size[0], image.height), resample, (left, 0, right, image.height))
    return rows.resize(size, resample, (0, top, size[0], bottom))


def with_shorter_side(image: Image.Image, side: int, resample: Image.Resampling = Image.Resampling.BICUBIC) -> Image.Image:
    """The image resized as torchvision's Resize(side) does: the longer side is rounded down."""
    width, height = image.size
    if width <= height:
        return resized(image, (side, int(side * height / width)), resample)
    return resized(image, (int(side * width / height), side), resample)
