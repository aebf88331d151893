"""Image files of every kind, others that only look like it, and the threads that work on them."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def encoded(image: Image.Image, image_format: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, image_format, **options)
    return file.getvalue()


def photograph(seed: int, width: int = 60, height: int = 44) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def sound_files() -> dict[str, bytes]:
    """One of each kind that decodes."""
    turned = Image.Exif()
    turned[0x0112] = 6
    grey = np.random.default_rng(9).integers(0, 1 << 16, (40, 30), dtype=np.uint16)
    return {
        "baseline.jpg": encoded(photograph(0), "JPEG", quality=90),
        "bmp.bmp": encoded(photograph(1), "BMP"),
        "cmyk.jpg": encoded(photograph(2).convert("CMYK"), "JPEG"),
        "gif.gif": encoded(photograph(3).convert("P"), "GIF"),
        "grey.jpg": encoded(photograph(4).convert("L"), "JPEG"),
        "png_named.jpg": encoded(photograph(5), "PNG"),
        "progressive.jpg": encoded(photograph(6, 45, 70), "JPEG", progressive=True),
        "sixteen.png": encoded(Image.fromarray(grey), "PNG"),
        "tall.jpg": encoded(photograph(7, 9, 200), "JPEG", subsampling=0),
        "tiny.png": encoded(photograph(8, 1, 1), "PNG"),
        "transparent.png": encoded(photograph(9).convert("RGBA"), "PNG"),
        "turned.jpg": encoded(photograph(10), "JPEG", exif=turned),
    }


def odd_files() -> dict[str, bytes]:
    """Ten that do not decode, each in its own way."""
    jpeg, png = encoded(photograph(0), "JPEG"), encoded(photograph(1), "PNG")
    return {
        "cut.gif": encoded(photograph(2).convert("P"), "GIF")[:60],
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "cut.png": png[: len(png) // 2],
        "empty.jpg": b"",
        "header.jpg": jpeg[:40],
        "html.jpg": b"<html><body>404</body></html>",
        "noise.jpg": bytes(np.random.default_rng(0).integers(0, 256, 3000, dtype=np.uint8)),
        "start.jpg": b"\xff\xd8\xff",
        "text.png": b"no image\n",
        "zeros.webp": bytes(500),
    }


def written(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def own_threads() -> list[str]:
    """Names of the threads that make views; those of other tests, as of copies from addresses, end with the process."""
    names = ("deit_fast-decode", "deit_fast-finish", "deit_fast-loader")
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(names)]
