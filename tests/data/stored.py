"""What a beton stores, read through FFCV's own Reader, for tests."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from ffcv.reader import Reader
from numpy.typing import NDArray
from PIL import Image


def stored_bytes(path: Path) -> list[bytes]:
    """The stored image of each sample."""
    reader, content = Reader(str(path)), path.read_bytes()
    sizes = {int(row["ptr"]): int(row["size"]) for row in reader.alloc_table}
    starts = [int(row["data_ptr"]) for row in reader.metadata["f0"]]
    return [content[start : start + sizes[start]] for start in starts]


def stored_images(path: Path) -> list[tuple[str, NDArray[np.uint8]]]:
    """(mode, RGB pixels) of each sample, JPEG decoded by Pillow."""
    images = []
    for row, stored in zip(Reader(str(path)).metadata["f0"], stored_bytes(path), strict=True):
        if row["mode"] == 0:
            images.append(("jpg", np.asarray(Image.open(io.BytesIO(stored)).convert("RGB"))))
        else:
            pixels = np.frombuffer(stored, dtype=np.uint8).reshape(row["height"], row["width"], 3)
            images.append(("raw", pixels))
    return images
