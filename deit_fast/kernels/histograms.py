"""Counts of grey levels."""

from __future__ import annotations

import numpy as np

from deit_fast.kernels.compiled import compiled


@compiled()
def histograms(pixels):  # type: ignore[no-untyped-def]
    """How often each grey level occurs in each channel, (3, 256) int64, of RGB pixels (height, width, 3) uint8."""
    counts = np.zeros((3, 256), np.int64)
    for y in range(pixels.shape[0]):
        for x in range(pixels.shape[1]):
            for channel in range(3):
                counts[channel, pixels[y, x, channel]] += 1
    return counts
