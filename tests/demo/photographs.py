"""Made-up photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_ramp(path: Path, width: int = 1000, height: int = 500) -> Path:
    """A grey picture that gets brighter from left to right: 0 to 250."""
    columns = np.rint(np.arange(width) * (250 / (width - 1))).astype(np.uint8)
    Image.fromarray(np.tile(columns, (height, 1))).save(path)
    return path


def write_noise(path: Path, seed: int, width: int = 640, height: int = 400) -> Path:
    """A coloured picture with structures of 16 pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height // 16, width // 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC).save(path)
    return path
