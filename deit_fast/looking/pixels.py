"""Turns images as a network sees them back into grey levels that can be shown."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import Triple


def as_levels(images: NDArray[np.generic], mean: Triple, std: Triple, *, is_bfloat16: bool = False) -> NDArray[np.uint8]:
    """Grey levels (B, H, W, 3) uint8 of a loader's images (B, H, W, 3), rounded; uint8 images stay as they are.

    mean, std: of their normalisation, in units of 255 grey levels. is_bfloat16: the images are its bits as uint16. Values
    beyond 0 to 255, such as noise of random erasing, are clipped.
    """
    if images.dtype == np.uint8:
        return images.view(np.uint8)
    values = (images.astype(np.uint32) << 16).view(np.float32) if is_bfloat16 else images
    levels = np.rint(255 * (values.astype(np.float64) * np.array(std) + np.array(mean)))
    return levels.clip(0, 255).astype(np.uint8)
