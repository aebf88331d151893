"""Takes the size of an image, gives the box that a view shows of it.

A plan is (top, left, height, width, full_height, full_width, first_row, first_column): resize the box of the image to
full_height x full_width, of which rows and columns from first_row and first_column on are the view; where it reaches beyond,
it is padded by reflection. All are integers. As a row of an array it has one more: 1 if the view is mirrored left to right,
else 0.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from deit_fast.kernels import rng
from deit_fast.kernels.compiled import compiled

TRIES = 10
PLAN_LENGTH = 9

GIVEN = 0  # plans are made elsewhere
RANDOM = 1
SIMPLE = 2
CENTRE = 3


class Cropping(NamedTuple):
    """How views are cropped and mirrored; a named tuple, since compiled code takes these as arguments. Made by `cropping`."""

    kind: np.int64  # GIVEN, RANDOM, SIMPLE or CENTRE
    flip: np.float64  # probability
    scale_low: np.float64  # of RANDOM, as `random_resized_crop` has them
    scale_high: np.float64
    ratio_low: np.float64
    ratio_high: np.float64
    padding: np.int64  # of SIMPLE
    resized: np.int64  # of CENTRE: the shorter side before the crop


def cropping(
    kind: int,
    *,
    flip: float = 0.0,
    scale: tuple[float, float] = (1.0, 1.0),
    ratio: tuple[float, float] = (1.0, 1.0),
    padding: int = 0,
    resized: int = 0,
) -> Cropping:
    """A `Cropping` with every number of the type that compiled code wants."""
    lows, highs = (np.float64(scale[0]), np.float64(ratio[0])), (np.float64(scale[1]), np.float64(ratio[1]))
    sizes = np.int64(padding), np.int64(resized)
    return Cropping(np.int64(kind), np.float64(flip), lows[0], highs[0], lows[1], highs[1], *sizes)


@compiled()
def random_resized_crop(seed, view_id, height, width, scale, ratio, resolution):  # type: ignore[no-untyped-def]
    """Plan of a random crop, as timm's RandomResizedCropAndInterpolation draws it: a share of the area uniform on scale,
    an aspect ratio log-uniform on ratio, ten tries, else the largest centred box within the range of ratios."""
    area = float(height * width)
    for attempt in range(TRIES):
        u0, u1, u2, u3 = rng.uniforms(seed, view_id, rng.CROP, attempt)
        target_area = area * (scale[0] + u0 * (scale[1] - scale[0]))
        low, high = math.log(ratio[0]), math.log(ratio[1])
        aspect = math.exp(low + u1 * (high - low))
        crop_width = np.int64(round(math.sqrt(target_area * aspect)))
        crop_height = np.int64(round(math.sqrt(target_area / aspect)))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            top = rng.below(u2, height - crop_height + 1)
            left = rng.below(u3, width - crop_width + 1)
            return top, left, crop_height, crop_width, resolution, resolution, np.int64(0), np.int64(0)
    crop_height, crop_width = np.int64(height), np.int64(width)
    if width / height < ratio[0]:
        crop_height = max(np.int64(1), np.int64(round(width / ratio[0])))
    elif width / height > ratio[1]:
        crop_width = max(np.int64(1), np.int64(round(height * ratio[1])))
    top, left = (height - crop_height) // 2, (width - crop_width) // 2
    return top, left, crop_height, crop_width, resolution, resolution, np.int64(0), np.int64(0)


@compiled()
def resized_centre_crop(height, width, resized, resolution):  # type: ignore[no-untyped-def]
    """Plan of the evaluation view, as torchvision's Resize(resized) and CenterCrop(resolution) make it: the shorter side
    becomes `resized` (>= resolution), the longer one is cut down to an integer."""
    if width <= height:
        full_width, full_height = np.int64(resized), np.int64(resized * height / width)
    else:
        full_width, full_height = np.int64(resized * width / height), np.int64(resized)
    first_row = np.int64(round((full_height - resolution) / 2.0))
    first_column = np.int64(round((full_width - resolution) / 2.0))
    return np.int64(0), np.int64(0), np.int64(height), np.int64(width), full_height, full_width, first_row, first_column


@compiled()
def simple_random_crop(seed, view_id, height, width, resolution, padding):  # type: ignore[no-untyped-def]
    """Plan of DeiT III's simple random crop (arXiv 2204.07118; facebookresearch/deit, augment.py): the shorter side becomes
    `resolution`, the image is padded by reflection on each side, and a random square of the side `resolution` cut out."""
    top, left, height, width, full_height, full_width, _, _ = resized_centre_crop(height, width, resolution, resolution)
    u0, u1, _, _ = rng.uniforms(seed, view_id, rng.CROP, 0)
    first_row = rng.below(u0, full_height + 2 * padding - resolution + 1) - padding
    first_column = rng.below(u1, full_width + 2 * padding - resolution + 1) - padding
    return top, left, height, width, full_height, full_width, first_row, first_column


@compiled()
def _axis(start, size, full, first, origin, denominator):  # type: ignore[no-untyped-def]
    low = start // denominator
    limit = -(-(start + size) // denominator) - low
    return low - origin // denominator, start / denominator - low, size / denominator, limit, full, first


@compiled()
def axes(plan, origin_row, origin_column, denominator):  # type: ignore[no-untyped-def]
    """(vertical, horizontal) axis, see `kernels.resample`, of a plan (8 integers).

    For pixels that begin at a row and a column of the image, and of whose size they are 1 / denominator (1, 2, 4 or 8, of
    which the origin is a multiple). (0, 0, 1) is the whole image.
    """
    vertical = _axis(plan[0], plan[2], plan[4], plan[6], origin_row, denominator)
    return vertical, _axis(plan[1], plan[3], plan[5], plan[7], origin_column, denominator)


@compiled()
def is_flipped(seed, view_id, probability):  # type: ignore[no-untyped-def]
    """Whether a view is mirrored left to right."""
    return rng.uniforms(seed, view_id, rng.FLIP, 0)[0] < probability


@compiled()
def plan_view(seed, view_id, how, height, width, resolution):  # type: ignore[no-untyped-def]
    """(plan, whether it is mirrored) of a view of an image of this size; how: a `Cropping`."""
    if how.kind == RANDOM:
        scale, ratio = (how.scale_low, how.scale_high), (how.ratio_low, how.ratio_high)
        plan = random_resized_crop(seed, view_id, height, width, scale, ratio, resolution)
    elif how.kind == SIMPLE:
        plan = simple_random_crop(seed, view_id, height, width, resolution, how.padding)
    else:
        plan = resized_centre_crop(height, width, how.resized, resolution)
    return plan, is_flipped(seed, view_id, how.flip)


@compiled()
def plan_views(seed, ids, how, heights, widths, resolution, plans):  # type: ignore[no-untyped-def]
    """Fills plans (B, PLAN_LENGTH) int64 with crops and flips. ids (B,) uint64; how: a `Cropping`, of any kind but GIVEN;
    heights, widths (B,) int64: of the image that each view is of."""
    for i in range(len(ids)):
        plan, flipped = plan_view(seed, ids[i], how, heights[i], widths[i], resolution)
        plans[i, 0], plans[i, 1], plans[i, 2], plans[i, 3] = plan[0], plan[1], plan[2], plan[3]
        plans[i, 4], plans[i, 5], plans[i, 6], plans[i, 7] = plan[4], plan[5], plan[6], plan[7]
        plans[i, 8] = 1 if flipped else 0
