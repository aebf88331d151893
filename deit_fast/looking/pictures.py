"""Draws arrays as pictures: maps over images, filters and maps side by side."""

from __future__ import annotations

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image

_MAP = "inferno"
_LEAST_SIDE = 224  # pixels of an image under a map


def overlaid(levels: NDArray[np.uint8], weights: NDArray[np.float32]) -> NDArray[np.uint8]:
    """An image (H, W, 3) in grey under a map (h, w) in colours, from its smallest weight to its largest, which is brightest.

    At least 224 pixels large; the map is interpolated to that size.
    """
    factor = max(1, -(-_LEAST_SIDE // max(levels.shape[:2])))
    grey = np.asarray(Image.fromarray(levels).convert("L")).repeat(factor, 0).repeat(factor, 1)
    scaled = (weights - weights.min()) / max(float(np.ptp(weights)), 1e-12)
    whole = Image.fromarray(scaled.astype(np.float32)).resize(grey.shape[::-1], Image.Resampling.BILINEAR)
    colours = matplotlib.colormaps[_MAP](np.asarray(whole))[:, :, :3] * 255
    return np.rint(0.4 * grey[:, :, None] + 0.6 * colours).astype(np.uint8)


def side_by_side(several: NDArray[np.float32], columns: int, *, factor: int, gap: int = 2) -> NDArray[np.uint8]:
    """Pictures (n, h, w, 3) in 0 to 1, `columns` of them in a row, each pixel a square of side `factor`, on white."""
    large = np.rint(255 * several).astype(np.uint8).repeat(factor, 1).repeat(factor, 2)
    count, height, width = large.shape[:3]
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for index, picture in enumerate(large):
        y, x = index // columns * (height + gap), index % columns * (width + gap)
        sheet[y : y + height, x : x + width] = picture
    return sheet


def stretched(filters: NDArray[np.float32]) -> NDArray[np.float32]:
    """Filters (n, h, w, 3), each with its values stretched to 0 to 1, and 0.5 for zero."""
    largest = np.abs(filters).max(axis=(1, 2, 3), keepdims=True)
    return 0.5 + filters / np.maximum(2 * largest, 1e-12)


def coloured(maps: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """Maps (n, h, w) in colours (n, h, w, 3) 0 to 1, from low to high."""
    return matplotlib.colormaps["viridis"]((maps - low) / max(high - low, 1e-12))[..., :3].astype(np.float32)
