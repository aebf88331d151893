"""Compares operations of a policy, and whole policies, with timm's and torchvision's."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import timm.data.auto_augment as timms
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import functional as F

from deit_fast.augment.policy import parse
from deit_fast.benchmarks.fidelity.crops import random_views
from deit_fast.benchmarks.fidelity.global_generators import seeded
from deit_fast.benchmarks.fidelity.material import Material, Pair, Row
from deit_fast.benchmarks.fidelity.older_pillow import posterized
from deit_fast.config import AugmentConfig
from deit_fast.kernels import levels, operations, policy
from deit_fast.kernels import operation_codes as codes

_RECIPE = AugmentConfig()
_FILL = tuple(min(255, round(255 * mean)) for mean in _RECIPE.mean)  # as timm has it
_MAGNITUDE, _DEVIATION = 9.0, 0.5  # of the recipe
_JITTER = 0.4


def _applied(steps: list[tuple[int, float]], image: NDArray[np.uint8], is_bicubic: bool) -> NDArray[np.uint8]:
    """What our operations make of a view, after each other."""
    step_codes = np.array([[code for code, _ in steps]], np.int32)
    arguments = np.array([[argument for _, argument in steps]], np.float64)
    view = image[None].copy()
    scratch = np.empty((1, operations.scratch_bytes(*image.shape[:2])), np.uint8)
    operations.apply_all(step_codes, arguments, is_bicubic, _FILL, view, scratch)
    result: NDArray[np.uint8] = view[0]
    return result


def _operation(
    material: Material, generator: np.random.Generator, name: str, increasing: str, interpolation: str
) -> Iterator[Pair]:
    """One of timm's operations: at the recipe's magnitude, and uniformly over the whole range, in both of its forms."""
    is_bicubic, pillows = interpolation == "bicubic", Image.Resampling[interpolation.upper()]
    for image in material.images:
        one = name if generator.integers(4) == 0 else increasing
        is_recipe = generator.integers(2) == 0
        magnitude = _MAGNITUDE + _DEVIATION * generator.normal() if is_recipe else generator.uniform(0, 10)
        magnitude = min(max(magnitude, 0.0), 10.0)
        level_to_argument = timms.LEVEL_TO_ARG[one]
        with seeded(int(generator.integers(2**32))):
            given: tuple[float, ...] = level_to_argument(magnitude, {}) if level_to_argument else ()
        # timm drew the sign
        code, function = levels.OPERATIONS[one]
        neutral = 1.0 if function == levels.ENHANCEMENT_INCREASING else 0.0
        is_negative = bool(given) and given[0] < neutral
        argument = levels.argument_of(function, magnitude, is_negative, 0.0, image.shape[0], image.shape[1])
        pillow_image = Image.fromarray(image)
        if code == codes.POSTERIZE:
            reference = posterized(pillow_image, int(given[0]))
        else:
            reference = timms.NAME_TO_OP[one](pillow_image, *given, fillcolor=_FILL, resample=pillows)
        yield _applied([(code, argument)], image, is_bicubic), np.asarray(reference)


def _greys(material: Material, generator: np.random.Generator) -> Iterator[Pair]:
    for image in material.images:
        reference = F.to_grayscale(Image.fromarray(image), 3)
        yield _applied([(codes.GREY, 0.0)], image, True), np.asarray(reference)


# what timm calls for each of our codes, with Pillow's argument
_REFERENCES: dict[int, Callable[..., Image.Image]] = {
    codes.AUTO_CONTRAST: lambda image, _, **options: timms.auto_contrast(image),
    codes.EQUALIZE: lambda image, _, **options: timms.equalize(image),
    codes.INVERT: lambda image, _, **options: timms.invert(image),
    codes.ROTATE: timms.rotate,
    codes.POSTERIZE: lambda image, bits, **options: posterized(image, int(bits)),
    codes.SOLARIZE: lambda image, threshold, **options: timms.solarize(image, int(threshold)),
    codes.SOLARIZE_ADD: lambda image, added, **options: timms.solarize_add(image, int(added)),
    codes.COLOR: timms.color,
    codes.CONTRAST: timms.contrast,
    codes.BRIGHTNESS: timms.brightness,
    codes.SHARPNESS: timms.sharpness,
    codes.SHEAR_X: timms.shear_x,
    codes.SHEAR_Y: timms.shear_y,
    codes.TRANSLATE_X: timms.translate_x_abs,
    codes.TRANSLATE_Y: timms.translate_y_abs,
    codes.GREY: lambda image, _, **options: F.to_grayscale(image, 3),
    codes.BLUR: timms.gaussian_blur,
}
_JITTER_REFERENCES = {
    codes.BRIGHTNESS: lambda image, factor, **options: F.adjust_brightness(image, factor),
    codes.CONTRAST: lambda image, factor, **options: F.adjust_contrast(image, factor),
    codes.COLOR: lambda image, factor, **options: F.adjust_saturation(image, factor),
}


def _drawn_steps(policy_drawn: policy.Policy, seed: int, number: int, height: int, width: int) -> list[tuple[int, float]]:
    drawn = np.empty((1, policy_drawn.num_steps), np.int32), np.empty((1, policy_drawn.num_steps))
    policy.draw_steps(np.uint64(seed), np.array([number], np.uint64), policy_drawn, height, width, *drawn)
    return [step for step in zip(*(column[0].tolist() for column in drawn), strict=True) if step[0] != codes.NOTHING]


def _colour_jitter(material: Material, generator: np.random.Generator) -> Iterator[Pair]:
    jitter = parse("", _JITTER, "bicubic")
    for number, image in enumerate(material.images):
        steps = _drawn_steps(jitter, material.seed, number, *image.shape[:2])
        reference = Image.fromarray(image)
        for code, argument in steps:
            reference = _JITTER_REFERENCES[code](reference, argument)
        yield _applied(steps, image, True), np.asarray(reference)


def _policy(
    material: Material, generator: np.random.Generator, text: str, color_jitter: float, interpolation: str
) -> Iterator[Pair]:
    """A policy's steps on random resized crops that both sides make for themselves."""
    drawn, pillows = parse(text, color_jitter, interpolation), Image.Resampling[interpolation.upper()]
    for number, (view, pillows_view) in enumerate(random_views(material, generator, interpolation)):
        steps = _drawn_steps(drawn, material.seed, number, *view.shape[:2])
        reference = Image.fromarray(pillows_view)
        for code, argument in steps:
            reference = _REFERENCES[code](reference, argument, fillcolor=_FILL, resample=pillows)
        yield _applied(steps, view, interpolation == "bicubic"), np.asarray(reference)


def _timm_row(name: str, *, increasing: bool = False, interpolation: str = "", max_wanted: float = 0.0) -> Row:
    pairs = partial(
        _operation,
        name=name,
        increasing=f"{name}Increasing" if increasing else name,
        interpolation=interpolation or "bicubic",
    )
    return Row(f"{name}, {interpolation}" if interpolation else name, "timm", pairs, max_wanted)


ROWS = (
    _timm_row("AutoContrast"),
    _timm_row("Equalize"),
    _timm_row("Invert"),
    _timm_row("Posterize", increasing=True),
    _timm_row("Solarize", increasing=True),
    _timm_row("SolarizeAdd"),
    *(_timm_row(name, increasing=True, max_wanted=1.0) for name in ("Color", "Contrast", "Brightness", "Sharpness")),
    *(
        _timm_row(name, interpolation=interpolation, max_wanted=1.0)
        for name in ("Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel")
        for interpolation in ("bicubic", "bilinear")
    ),
    Row("grayscale", "torchvision", _greys),
    _timm_row("GaussianBlur"),
    Row("colour jitter 0.4", "torchvision", _colour_jitter, 1.0),
)


def _policy_row(name: str, text: str, interpolation: str = "bicubic", color_jitter: float = 0.0) -> Row:
    pairs = partial(_policy, text=text, color_jitter=color_jitter, interpolation=interpolation)
    return Row(f"{name}, {interpolation}", "timm", pairs, max_wanted=None, share_wanted=0.002)


# an operation can make any difference of a difference of one level: Solarize inverts from a threshold on
POLICIES = (
    *(_policy_row(f"RandAugment {_RECIPE.auto_augment}", _RECIPE.auto_augment, name) for name in ("bicubic", "bilinear")),
    _policy_row("AutoAugment original", "original"),
    _policy_row("3-Augment and colour jitter 0.3 (DeiT III)", "3a", color_jitter=0.3),
)
