"""Compares operations of a policy, and whole policies, with timm's and torchvision's."""

from __future__ import annotations

from collections.abc import Iterator
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
from deit_fast.benchmarks.fidelity.references import REFERENCES
from deit_fast.config import AugmentConfig
from deit_fast.kernels import levels, operations, policy
from deit_fast.kernels.operation_table import CODES, IN_POLICIES, LEVEL_FUNCTIONS, NOTHING, OPERATIONS, Operation

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
        code, function = IN_POLICIES[one]
        neutral = 1.0 if LEVEL_FUNCTIONS[function] is levels.factor_increasing else 0.0
        is_negative = bool(given) and given[0] < neutral
        argument = policy.argument_of(function, magnitude, is_negative, 0.0, image.shape[0], image.shape[1])
        pillow_image = Image.fromarray(image)
        if name == "Posterize":
            reference = REFERENCES["posterize"].function(pillow_image, given[0])
        else:
            reference = timms.NAME_TO_OP[one](pillow_image, *given, fillcolor=_FILL, resample=pillows)
        yield _applied([(code, argument)], image, is_bicubic), np.asarray(reference)


def _other_operation(material: Material, generator: np.random.Generator, name: str, interpolation: str) -> Iterator[Pair]:
    """An operation that timm's policies do not have, with one of its reference's arguments."""
    is_bicubic, pillows = interpolation == "bicubic", Image.Resampling[interpolation.upper()]
    reference = REFERENCES[name]
    for image in material.images:
        argument = float(generator.choice(reference.arguments))
        theirs = reference.function(Image.fromarray(image), argument, fillcolor=_FILL, resample=pillows)
        yield _applied([(CODES[name], argument)], image, is_bicubic), np.asarray(theirs)


_BY_CODE = {CODES[name]: reference for name, reference in REFERENCES.items()}
_JITTER_REFERENCES = {
    CODES["brightness"]: lambda image, factor, **options: F.adjust_brightness(image, factor),
    CODES["contrast"]: lambda image, factor, **options: F.adjust_contrast(image, factor),
    CODES["color"]: lambda image, factor, **options: F.adjust_saturation(image, factor),
}


def _drawn_steps(policy_drawn: policy.Policy, seed: int, number: int, height: int, width: int) -> list[tuple[int, float]]:
    drawn = np.empty((1, policy_drawn.num_steps), np.int32), np.empty((1, policy_drawn.num_steps))
    policy.draw_steps(np.uint64(seed), np.array([number], np.uint64), policy_drawn, height, width, *drawn)
    return [step for step in zip(*(column[0].tolist() for column in drawn), strict=True) if step[0] != NOTHING]


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
            reference = _BY_CODE[code].function(reference, argument, fillcolor=_FILL, resample=pillows)
        yield _applied(steps, view, interpolation == "bicubic"), np.asarray(reference)


def _rows(operation: Operation) -> Iterator[Row]:
    """Of an operation; one that moves pixels has a row for each interpolation."""
    reference, plain = REFERENCES[operation.name], next(iter(operation.levels))
    for interpolation in ("bicubic", "bilinear")[: 2 if reference.moves_pixels else 1]:
        if plain in timms.NAME_TO_OP:
            increasing = f"{plain}Increasing" if f"{plain}Increasing" in operation.levels else plain
            pairs = partial(_operation, name=plain, increasing=increasing, interpolation=interpolation)
        else:
            pairs = partial(_other_operation, name=operation.name, interpolation=interpolation)
        name = reference.named or plain
        label = f"{name}, {interpolation}" if reference.moves_pixels else name
        yield Row(label, reference.made_by, pairs, reference.max_wanted)


_BY_NAME = {operation.name: operation for operation in OPERATIONS}
ROWS = (
    *(row for name in REFERENCES for row in _rows(_BY_NAME[name])),
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
