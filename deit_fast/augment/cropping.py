"""Translates the options of a view's crop for the kernels."""

from __future__ import annotations

from deit_fast.config import AugmentConfig, UserError
from deit_fast.kernels import crop

_SIMPLE_CROP_PADDING = 4  # DeiT III's


def train_cropping(augment: AugmentConfig, resolution: int, centre_ratio: float) -> crop.Cropping:
    """The crops and flips of training views with side `resolution`.

    centre_ratio: with augment.crop=centre, side of the crop over the shorter side of the resized image. Raises UserError if
    the padding of a simple crop is as large as the view, because it would be read from outside the view.
    """
    flip = float(augment.flip)
    if augment.crop == "centre":
        return crop.cropping(crop.CENTRE, flip=flip, resized=int(resolution / centre_ratio))
    if augment.crop == "simple":
        if resolution <= _SIMPLE_CROP_PADDING:
            raise UserError(f"data.resolution={resolution}: want above {_SIMPLE_CROP_PADDING} for augment.crop=simple")
        return crop.cropping(crop.SIMPLE, flip=flip, padding=_SIMPLE_CROP_PADDING)
    return crop.cropping(crop.RANDOM, flip=flip, scale=augment.crop_scale, ratio=augment.crop_ratio)


def eval_cropping(resolution: int, crop_ratio: float) -> crop.Cropping:
    """The evaluation view: shorter side resized to resolution / crop_ratio (rounded down), then a centre crop."""
    return crop.cropping(crop.CENTRE, resized=int(resolution / crop_ratio))
