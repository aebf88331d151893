"""A folder of the odd files that image sets have, made for tests: other formats under a .jpg name, damage, extremes."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from tests.data.image_folders import smooth_image

LONG_NAME = "ä" * 100 + "x" * 50 + ".jpeg"  # 255 bytes, the longest name that file systems take


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _ycck(image: Image.Image) -> bytes:
    """A CMYK JPEG whose Adobe marker says that its components are YCCK."""
    content = bytearray(encoded(image.convert("CMYK"), quality=90))
    start = content.index(b"Adobe")
    content[start + 11] = 2
    return bytes(content)


def make_odd_files(root: Path) -> dict[str, str]:
    """Makes a class folder of odd files; gives what is to become of each by name: exact, converted, repaired, skipped, raw."""
    folder = root / "odd"
    folder.mkdir(parents=True)
    image = Image.fromarray(smooth_image(1, 200, 300))
    exif = Image.Exif()
    exif[0x0112] = 6
    grey16 = Image.fromarray((np.arange(60 * 80, dtype=np.uint16) * 13).reshape(60, 80))
    palette = image.convert("P", palette=Image.Palette.ADAPTIVE)
    palette.info["transparency"] = bytes(range(256))
    plain = encoded(image, quality=95)
    scan = plain.index(b"\xff\xda")
    wrecked = bytearray(plain)
    wrecked[scan + 400 : scan + 420] = bytes([0xFF, 0xD3] * 10)  # restart markers out of nowhere
    files: dict[str, tuple[bytes, str]] = {
        "a_png.JPEG": (encoded(image, "PNG"), "converted"),
        "cmyk.jpg": (encoded(image.convert("CMYK")), "converted"),
        "ycck.jpg": (_ycck(image), "converted"),
        "grey.jpg": (encoded(image.convert("L")), "exact"),
        "progressive.jpg": (encoded(image, progressive=True, quality=92), "exact"),
        "optimized.jpg": (encoded(image, optimize=True), "exact"),
        "rgb.jpg": (encoded(image, keep_rgb=True), "exact"),
        "full_chroma.jpg": (encoded(image, subsampling="4:4:4"), "exact"),
        "half_chroma.jpg": (encoded(image, subsampling="4:2:2"), "exact"),
        "grey16.png": (encoded(grey16, "PNG"), "converted"),
        "palette.png": (encoded(palette, "PNG"), "converted"),
        "alpha.png": (encoded(image.convert("RGBA"), "PNG"), "converted"),
        "plain.png": (encoded(image, "PNG"), "encoded"),
        "turned.jpg": (encoded(image, exif=exif), "exact"),
        "truncated.jpg": (plain[: len(plain) * 2 // 3], "skipped"),
        "wrecked.jpg": (bytes(wrecked), "repaired"),
        "zero_bytes.jpg": (b"", "skipped"),
        "text.jpg": (b"This is a letter, and no image.\n" * 20, "skipped"),
        "wide.jpg": (encoded(Image.fromarray(smooth_image(2, 40, 12_000))), "exact"),
        "one_pixel.jpg": (encoded(Image.new("RGB", (1, 1), (200, 30, 90))), "exact"),
        "one_pixel.png": (encoded(Image.new("RGB", (1, 1), (200, 30, 90)), "PNG"), "encoded"),
        "große 写真 🐈.jpg": (plain, "exact"),
        LONG_NAME: (plain, "exact"),
    }
    for name, (content, _) in files.items():
        (folder / name).write_bytes(content)
    return {name: what for name, (_, what) in files.items()}
