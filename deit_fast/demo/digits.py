"""Writes scikit-learn's handwritten digits as an image folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

_SIDE = 32  # pixels; the digits themselves have 8
_VAL_SHARE = 0.2
_SEED = 0


def make_digits(folder: Path) -> tuple[int, int]:
    """Writes scikit-learn's digits as 32x32 JPEGs in folder/train/CLASS and folder/val/CLASS; gives the number of each.

    A fixed fifth of each class, drawn with a fixed seed, is for validation.
    """
    from sklearn.datasets import load_digits  # takes a second

    pixels, labels = load_digits(return_X_y=True)
    grey = np.rint(pixels.reshape(-1, 8, 8) * (255 / 16)).astype(np.uint8)
    counts = {"train": 0, "val": 0}
    generator = np.random.Generator(np.random.PCG64(_SEED))
    for label in range(10):
        indices = generator.permutation(np.flatnonzero(labels == label))
        num_val = round(len(indices) * _VAL_SHARE)
        for split, chosen in (("val", indices[:num_val]), ("train", indices[num_val:])):
            target = folder / split / str(label)
            target.mkdir(parents=True)
            for index in chosen:
                image = Image.fromarray(grey[index]).resize((_SIDE, _SIDE), Image.Resampling.BICUBIC).convert("RGB")
                image.save(target / f"{index:04d}.jpg", quality=95, subsampling=0)
            counts[split] += len(chosen)
    return counts["train"], counts["val"]
