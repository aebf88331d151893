"""Takes a policy string, gives what timm's own code draws for it: names and arguments are recorded, no pixel is touched."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from timm.data import auto_augment as timms

from deit_fast.kernels.operation_table import CODES

Step = tuple[int, float]

_NAMES = {
    timms.auto_contrast: "auto_contrast",
    timms.equalize: "equalize",
    timms.invert: "invert",
    timms.rotate: "rotate",
    timms.posterize: "posterize",
    timms.solarize: "solarize",
    timms.solarize_add: "solarize_add",
    timms.color: "color",
    timms.contrast: "contrast",
    timms.brightness: "brightness",
    timms.sharpness: "sharpness",
    timms.shear_x: "shear_x",
    timms.shear_y: "shear_y",
    timms.translate_x_rel: "translate_x",
    timms.translate_y_rel: "translate_y",
    timms.desaturate: "color",
    timms.gaussian_blur: "blur",
    timms.gaussian_blur_rand: "blur",
}


def _pillow_argument(function: Callable[..., Any], argument: float, height: int, width: int) -> float:
    """What timm's operation hands to Pillow."""
    if function is timms.translate_x_rel:
        return argument * width
    if function is timms.translate_y_rel:
        return argument * height
    if function is timms.posterize:
        return float(min(max(argument, 0), 8))  # Pillow: below 0 as 0; timm: nothing is done from 8 on
    if function is timms.desaturate:
        return min(1.0, max(0.0, 1.0 - argument))
    if function is timms.gaussian_blur_rand:
        return random.uniform(0.1, 2.0 * argument)
    return float(argument)


def step_of(name: str, level_arguments: tuple[float, ...], height: int, width: int) -> Step:
    """(code, argument) of timm's operation with a name, called with what its level function gave."""
    function = timms.NAME_TO_OP[name]
    if not level_arguments:
        return CODES[_NAMES[function]], 0.0
    return CODES[_NAMES[function]], _pillow_argument(function, level_arguments[0], height, width)


def drawn_by_timm(text: str, count: int, height: int, width: int) -> list[list[Step]]:
    """The steps that fire, for each of count images, in order."""
    transform = timms.rand_augment_transform if text.startswith("rand") else timms.auto_augment_transform
    policy = transform(text, {"translate_const": 100, "img_mean": (124, 116, 104)})
    operations = policy.ops if text.startswith("rand") else [op for sub_policy in policy.policy for op in sub_policy]

    def record(name: str, steps: list[Step], *level_arguments: float, **_: Any) -> list[Step]:
        steps.append(step_of(name, level_arguments, height, width))
        return steps

    for operation in operations:
        operation.aug_fn = partial(record, operation.name)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - timm draws from the global generators
    return [policy([]) for _ in range(count)]
