"""Takes the name of one of timm's operations, gives its code and the function that turns a magnitude into its argument.

The names, the functions and their constants are those of timm 1.0.31 (timm/data/auto_augment.py, NAME_TO_OP and
LEVEL_TO_ARG); magnitudes go from 0 to 10.
"""

from __future__ import annotations

from deit_fast.kernels import operation_codes as codes
from deit_fast.kernels.compiled import compiled

NO_ARGUMENT = 0
ROTATION = 1
ENHANCEMENT = 2
ENHANCEMENT_INCREASING = 3
SHEAR = 4
SHIFT_X = 5
SHIFT_Y = 6
BITS = 7
BITS_INCREASING = 8
BITS_ORIGINAL = 9
THRESHOLD = 10
THRESHOLD_INCREASING = 11
ADDEND = 12
GREYNESS = 13
BLUR_RADIUS = 14
BLUR_RADIUS_RANDOM = 15

# name: (operation code, function)
OPERATIONS = {
    "AutoContrast": (codes.AUTO_CONTRAST, NO_ARGUMENT),
    "Equalize": (codes.EQUALIZE, NO_ARGUMENT),
    "Invert": (codes.INVERT, NO_ARGUMENT),
    "Rotate": (codes.ROTATE, ROTATION),
    "Posterize": (codes.POSTERIZE, BITS),
    "PosterizeIncreasing": (codes.POSTERIZE, BITS_INCREASING),
    "PosterizeOriginal": (codes.POSTERIZE, BITS_ORIGINAL),
    "Solarize": (codes.SOLARIZE, THRESHOLD),
    "SolarizeIncreasing": (codes.SOLARIZE, THRESHOLD_INCREASING),
    "SolarizeAdd": (codes.SOLARIZE_ADD, ADDEND),
    "Color": (codes.COLOR, ENHANCEMENT),
    "ColorIncreasing": (codes.COLOR, ENHANCEMENT_INCREASING),
    "Contrast": (codes.CONTRAST, ENHANCEMENT),
    "ContrastIncreasing": (codes.CONTRAST, ENHANCEMENT_INCREASING),
    "Brightness": (codes.BRIGHTNESS, ENHANCEMENT),
    "BrightnessIncreasing": (codes.BRIGHTNESS, ENHANCEMENT_INCREASING),
    "Sharpness": (codes.SHARPNESS, ENHANCEMENT),
    "SharpnessIncreasing": (codes.SHARPNESS, ENHANCEMENT_INCREASING),
    "ShearX": (codes.SHEAR_X, SHEAR),
    "ShearY": (codes.SHEAR_Y, SHEAR),
    "TranslateXRel": (codes.TRANSLATE_X, SHIFT_X),
    "TranslateYRel": (codes.TRANSLATE_Y, SHIFT_Y),
    "Desaturate": (codes.COLOR, GREYNESS),
    "GaussianBlur": (codes.BLUR, BLUR_RADIUS),
    "Grayscale": (codes.GREY, NO_ARGUMENT),
    "GaussianBlurRand": (codes.BLUR, BLUR_RADIUS_RANDOM),
}

_LOWEST_BLUR, _HIGHEST_BLUR = 0.1, 2.0


@compiled()
def argument_of(function, magnitude, is_negative, uniform, height, width):  # type: ignore[no-untyped-def]
    """Argument of an operation, float64, as `operation_codes` wants it.

    magnitude: clipped by the policy, >= 0; is_negative: the sign where there is one; uniform: on [0, 1), for what is random
    itself; height and width of the view.
    """
    level = magnitude / 10.0
    if function <= NO_ARGUMENT:
        return 0.0
    if function <= SHIFT_Y and function != ENHANCEMENT:
        sign = -1.0 if is_negative else 1.0
        if function == ROTATION:
            return sign * level * 30.0
        if function == SHEAR:
            return sign * level * 0.3
        if function == ENHANCEMENT_INCREASING:
            return max(0.1, 1.0 + sign * level * 0.9)
        return sign * level * 0.45 * (width if function == SHIFT_X else height)
    if function == ENHANCEMENT:
        return level * 1.8 + 0.1
    if function <= BITS_ORIGINAL:
        bits = int(level * 4.0)
        if function == BITS_INCREASING:
            bits = 4 - bits
        elif function == BITS_ORIGINAL:
            bits = 4 + bits
        return float(min(max(bits, 0), 8))  # magnitudes above 10 leave the range; Pillow then does what it does at its end
    if function <= THRESHOLD_INCREASING:
        threshold = min(256, int(level * 256.0))
        return float(threshold if function == THRESHOLD else 256 - threshold)
    if function == ADDEND:
        return float(min(128, int(level * 110.0)))
    level = min(level, 1.0)
    if function == GREYNESS:
        return 0.5 - 0.5 * level  # timm: 1 - (0.5 + 0.5 level)
    if function == BLUR_RADIUS:
        return _LOWEST_BLUR + (_HIGHEST_BLUR - _LOWEST_BLUR) * level
    return _LOWEST_BLUR + uniform * (_HIGHEST_BLUR * level - _LOWEST_BLUR)
