"""Takes the size of an image, gives the box that a view shows of it.

A plan is (top, left, height, width, full_height, full_width, first_row, first_column): resize the box of the image to
full_height x full_width, of which rows and columns from first_row and first_column on are the view; where it reaches beyond,
it is padded by reflection. All are integers. As a row of an array it has one more: 1 if the view is mirrored left to right,
else 0.
"""

from __future__ import annotations

import math

import numpy as np

from deit_fast.kernels import rng
from deit_fast.kernels.compiled import compiled

TRIES = 10
PLAN_LENGTH = 9


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
def plan_random_views(seed, ids, heights, widths, scale, ratio, padding, flip, resolution, plans):  # type: ignore[no-untyped-def]
    """Fills plans (B, PLAN_LENGTH) int64 with random crops and flips. ids (B,) uint64; heights, widths (N,) of all samples.

    padding: of `simple_random_crop`; negative for `random_resized_crop`, which scale and ratio are for.
    """
    for i in range(len(ids)):
        sample = rng.sample_of(ids[i])
        height, width = np.int64(heights[sample]), np.int64(widths[sample])
        if padding < 0:
            plan = random_resized_crop(seed, ids[i], height, width, scale, ratio, resolution)
        else:
            plan = simple_random_crop(seed, ids[i], height, width, resolution, padding)
        _store(plan, is_flipped(seed, ids[i], flip), plans[i])


@compiled()
def plan_centre_views(ids, heights, widths, resized, resolution, plans):  # type: ignore[no-untyped-def]
    """Fills plans (B, PLAN_LENGTH) int64 with evaluation views. ids (B,) uint64; heights, widths (N,) of all samples."""
    for i in range(len(ids)):
        sample = rng.sample_of(ids[i])
        plan = resized_centre_crop(np.int64(heights[sample]), np.int64(widths[sample]), resized, resolution)
        _store(plan, False, plans[i])


@compiled()
def plan_flipped_centre_views(seed, ids, heights, widths, resized, flip, resolution, plans):  # type: ignore[no-untyped-def]
    """plan_centre_views, mirrored with a probability as `plan_random_views` does it: views to train on as they are tested."""
    plan_centre_views(ids, heights, widths, resized, resolution, plans)
    for i in range(len(ids)):
        plans[i, 8] = 1 if is_flipped(seed, ids[i], flip) else 0


@compiled()
def _store(plan, flipped, row):  # type: ignore[no-untyped-def]
    row[0], row[1], row[2], row[3] = plan[0], plan[1], plan[2], plan[3]
    row[4], row[5], row[6], row[7] = plan[4], plan[5], plan[6], plan[7]
    row[8] = 1 if flipped else 0
