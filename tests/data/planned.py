"""Plans of views for tests: as `crop.plan_views` makes them, from the sizes of all images."""

from __future__ import annotations

import numpy as np

from deit_fast.kernels import crop, rng

RATIO = (3 / 4, 4 / 3)


def planned(
    ids: np.ndarray,
    heights: np.ndarray,
    widths: np.ndarray,
    cropping: crop.Cropping,
    resolution: int,
    seed: int | np.uint64 = 5,
) -> np.ndarray:
    """(B, PLAN_LENGTH) int64 of view ids (B,) uint64; heights, widths (N,): of all samples."""
    samples = rng.sample_of(ids).astype(np.int64)
    plans = np.empty((len(ids), crop.PLAN_LENGTH), np.int64)
    sizes = heights[samples].astype(np.int64), widths[samples].astype(np.int64)
    crop.plan_views(np.uint64(seed), ids, cropping, *sizes, resolution, plans)
    return plans


def random_cropping(scale: tuple[float, float], flip: float = 0.5) -> crop.Cropping:
    return crop.cropping(crop.RANDOM, flip=flip, scale=scale, ratio=RATIO)
