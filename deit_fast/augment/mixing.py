"""Translates the options of Mixup and CutMix for the kernels."""

from __future__ import annotations

from deit_fast.config import AugmentConfig
from deit_fast.kernels import mix


def mixing_of(augment: AugmentConfig) -> mix.Mixing:
    """The `Mixing` for the options."""
    return mix.mixing(
        augment.mix_mode,
        mixup=augment.mixup or 0.0,
        cutmix=augment.cutmix or 0.0,
        probability=augment.mix_probability,
        cutmix_probability=augment.cutmix_probability,
        repeats=augment.repeats,
        cutmix_minmax=augment.cutmix_minmax,
    )
