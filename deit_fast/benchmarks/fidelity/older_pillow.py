"""References as Pillow up to 12 has them, under Pillow 13: what timm's figures, and ours, were made with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import PIL
from PIL import Image
from timm.data import auto_augment as timms

_IS_NEWER = int(PIL.__version__.split(".")[0]) >= 13


def posterized(image: Image.Image, bits: int) -> Image.Image:
    """timm's posterize. Pillow 13 raises for 0 bits, of which nothing but black is left."""
    return Image.new(image.mode, image.size) if bits == 0 else timms.posterize(image, bits)


@contextmanager
def rows_first() -> Iterator[None]:
    """Pillow's resize goes along rows first, then along columns, whatever its version."""
    if not _IS_NEWER:
        yield
        return
    whole = Image.Image.resize

    def resize(image: Image.Image, size: Any, resample: Any = None, box: Any = None, **options: Any) -> Image.Image:
        left, top, right, bottom = box or (0, 0, *image.size)
        rows = whole(image, (size[0], image.height), resample, (left, 0, right, image.height), **options)
        return whole(rows, size, resample, (0, top, size[0], bottom), **options)

    Image.Image.resize = resize  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        Image.Image.resize = whole  # type: ignore[method-assign]
