"""Defines DeiT III's 3-Augment: three operations; each view gets one of them.

DeiT III (Touvron et al. 2022, section 3; augment.py of its code): grey, solarised at 128, or blurred by a Gaussian with a
radius uniform on 0.1 to 2, with equal probability; colour jitter follows.
"""

from __future__ import annotations

from deit_fast.augment.auto_augment import Operation

THREE_AUGMENT = (
    Operation("Grayscale", 1.0, 0.0),
    Operation("Solarize", 1.0, 5.0),  # threshold 128
    Operation("GaussianBlurRand", 1.0, 10.0),  # up to 2
)
