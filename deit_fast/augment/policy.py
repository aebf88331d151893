"""Translates the options of augmentation into a policy: a table that `kernels.policy` draws from."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from deit_fast.augment import auto_augment, randaugment
from deit_fast.augment.three_augment import THREE_AUGMENT
from deit_fast.config import AugmentConfig, UserError
from deit_fast.kernels.colour_jitter import NUM_STEPS as JITTER_STEPS
from deit_fast.kernels.operation_table import IN_POLICIES
from deit_fast.kernels.policy import Policy
from deit_fast.kernels.resample import FILTERS

INTERPOLATIONS = ("bicubic", "bilinear")


def policy_of(augment: AugmentConfig, interpolation: str) -> Policy:
    """The policy for the options; it rotates and shears bicubically unless interpolation is bilinear."""
    warp = interpolation if interpolation in INTERPOLATIONS else "bicubic"
    return parse(augment.auto_augment, augment.color_jitter, warp)


def fill_of(augment: AugmentConfig) -> tuple[int, int, int]:
    """Grey levels that fill the outside of a rotated or moved view: timm uses the mean colour, rounded."""
    red, green, blue = (max(0, min(255, round(255 * value))) for value in augment.mean)
    return red, green, blue


def parse(auto_augment_text: str, color_jitter: float, interpolation: str) -> Policy:
    """The policy for rand-…, original, originalr, v0, v0r, 3a or nothing, followed by colour jitter (0: none).

    interpolation: bicubic or bilinear. Raises UserError with one line that names what is wanted.
    """
    if interpolation not in INTERPOLATIONS:
        raise UserError(f"data.interpolation={interpolation}: want {' or '.join(INTERPOLATIONS)}")
    if not (math.isfinite(color_jitter) and color_jitter >= 0):
        raise UserError(f"augment.color_jitter={color_jitter}: want >= 0")
    kind = auto_augment_text.split("-")[0]
    rows: list[tuple[float, ...]] = []
    group_length, num_choices, with_replacement, deviation, max_magnitude = 1, 0, True, 0.0, randaugment.MAX_MAGNITUDE
    if kind == "rand":
        rand = randaugment.parse(auto_augment_text)
        rows = [_row(name, rand.probability, rand.magnitude, weight) for name, weight in rand.weights.items()]
        num_choices, with_replacement = rand.num_layers, rand.with_replacement
        deviation, max_magnitude = rand.deviation, rand.max_magnitude
    elif auto_augment_text == "3a":
        rows = _rows(THREE_AUGMENT)
        num_choices = 1
    elif kind in auto_augment.POLICIES:
        auto = auto_augment.parse(auto_augment_text)
        rows = [row for sub_policy in auto.sub_policies for row in _rows(sub_policy)]
        group_length, num_choices, deviation = 2, 1, auto.deviation
    elif auto_augment_text:
        wanted = ", ".join(auto_augment.POLICIES)
        raise UserError(f"augment.auto_augment={auto_augment_text}: want rand-… as in timm, {wanted}, 3a, or off")
    num_steps = group_length * num_choices + (JITTER_STEPS if color_jitter > 0 else 0)
    table = np.array(rows, np.float64).reshape(-1, 5)
    numbers = (group_length, num_choices, with_replacement, deviation, max_magnitude, float(color_jitter), num_steps)
    return Policy(table, *numbers, FILTERS[interpolation])


def _row(name: str, probability: float, magnitude: float, weight: float = 1.0) -> tuple[float, ...]:
    return (*IN_POLICIES[name], probability, magnitude, weight)


def _rows(operations: Iterable[auto_augment.Operation]) -> list[tuple[float, ...]]:
    return [_row(operation.name, operation.probability, operation.magnitude) for operation in operations]
