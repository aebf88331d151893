"""How far views are that are made of images at half size, by libjpeg's transform and by that of the lowest 4 x 4 coefficients.

lowest.py PHOTOS: three crops of each eighth JPEG of an image folder of 4:2:0, at 96 pixels, against those of full decoding, all
by Pillow. Luma is transformed anew from its decoded levels; chroma has full decoding's samples in both. Run from anywhere.
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import fft

SIDE = 96


def opened(encoded: bytes, mode: str, denominator: int) -> Image.Image:
    image = Image.open(io.BytesIO(encoded))
    image.draft(mode, (image.size[0] // denominator, image.size[1] // denominator))
    return image.convert(mode)


def of_lowest(luma: np.ndarray) -> np.ndarray:
    """Levels (ceil(H / 2), ceil(W / 2)) of luma (H, W)."""
    height, width = luma.shape
    padded = np.pad(luma.astype(float), ((0, -height % 8), (0, -width % 8)), mode="edge")
    rows, columns = (side // 8 for side in padded.shape)
    blocks = padded.reshape(rows, 8, columns, 8).transpose(0, 2, 1, 3)
    lowest = fft.dctn(blocks, axes=(2, 3), norm="ortho")[:, :, :4, :4] / 2
    half = fft.idctn(lowest, axes=(2, 3), norm="ortho").transpose(0, 2, 1, 3).reshape(4 * rows, 4 * columns)
    return np.clip(np.round(half), 0, 255).astype(np.uint8)[: -(-height // 2), : -(-width // 2)]


def random_box(generator: np.random.Generator, width: int, height: int) -> tuple[int, int, int, int]:
    """Of a random resized crop of twice the view or more."""
    while True:
        area, aspect = width * height * generator.uniform(0.08, 1), np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if 2 * SIDE <= w <= width and 2 * SIDE <= h <= height:
            left, top = generator.integers(0, width - w + 1), generator.integers(0, height - h + 1)
            return int(left), int(top), int(left + w), int(top + h)


def main(photos: str) -> None:
    generator = np.random.default_rng(0)
    found: dict[str, list[np.ndarray]] = {"libjpeg's": [], "the lowest": []}
    for path in sorted(Path(photos).glob("*/*.jpg"))[::8]:
        encoded = path.read_bytes()
        full, (luma, *_), half = opened(encoded, "RGB", 1), opened(encoded, "YCbCr", 1).split(), opened(encoded, "YCbCr", 2)
        bands = Image.fromarray(of_lowest(np.asarray(luma))), *half.split()[1:]
        images = {"libjpeg's": opened(encoded, "RGB", 2), "the lowest": Image.merge("YCbCr", bands).convert("RGB")}
        for _ in range(3):
            box = random_box(generator, *full.size)
            wanted = np.asarray(full.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box), float)
            for name, image in images.items():
                view = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=tuple(edge / 2 for edge in box))
                found[name].append(np.asarray(view) - wanted)
    for name, differences in found.items():
        views = np.stack(differences)
        psnr = 10 * np.log10(255**2 / (views**2).mean((1, 2, 3)))
        means = np.abs(views).mean((1, 2, 3))
        print(
            f"{name:12}{len(views)} crops: {means.mean():.2f} levels on average, {np.percentile(means, 99):.2f} in the 99th "
            f"percentile; PSNR median {np.median(psnr):.1f} dB, least {psnr.min():.1f}"
        )


main(sys.argv[1])
