"""Takes the options of augmentation, gives a policy, and the steps that it draws for views.

A policy is a table of operations in groups. For a view, `num_choices` groups are drawn, and each operation of a drawn group is
a step: RandAugment draws n groups of one, AutoAugment one group of two (a sub-policy), 3-Augment one of one. Colour jitter
comes after.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from deit_fast.augment import auto_augment, randaugment, rng
from deit_fast.augment.colour_jitter import NUM_STEPS as JITTER_STEPS
from deit_fast.augment.colour_jitter import draw_jitter
from deit_fast.augment.compiled import compiled
from deit_fast.augment.levels import OPERATIONS, argument_of
from deit_fast.augment.operation_codes import NOTHING
from deit_fast.augment.resample import FILTERS
from deit_fast.augment.three_augment import THREE_AUGMENT
from deit_fast.config import UserError

INTERPOLATIONS = ("bicubic", "bilinear")


class Policy(NamedTuple):
    """What is drawn for each view; a named tuple, since Numba takes these as arguments. Made by `parse`."""

    table: np.ndarray  # (groups x group_length, 5) float64: operation code, level function, probability, magnitude, weight
    group_length: int
    num_choices: int  # groups drawn for a view
    with_replacement: bool
    deviation: float  # of magnitudes; inf: uniform from 0 to the magnitude
    max_magnitude: float
    jitter: float  # strength of colour jitter; 0: none
    num_steps: int  # of a view, those that do nothing included
    interpolation: int  # of operations that move pixels, as in `resample.FILTERS`


def parse(auto_augment_text: str, color_jitter: float, interpolation: str) -> Policy:
    """The policy of the options: rand-…, original, originalr, v0, v0r, 3a or nothing, then colour jitter (0: none).

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
        raise UserError(f"augment.auto_augment={auto_augment_text}: want rand-… as in timm, {wanted}, 3a, or nothing")
    num_steps = group_length * num_choices + (JITTER_STEPS if color_jitter > 0 else 0)
    table = np.array(rows, np.float64).reshape(-1, 5)
    numbers = (group_length, num_choices, with_replacement, deviation, max_magnitude, float(color_jitter), num_steps)
    return Policy(table, *numbers, FILTERS[interpolation])


def _row(name: str, probability: float, magnitude: float, weight: float = 1.0) -> tuple[float, ...]:
    return (*OPERATIONS[name], probability, magnitude, weight)


def _rows(operations: Iterable[auto_augment.Operation]) -> list[tuple[float, ...]]:
    return [_row(operation.name, operation.probability, operation.magnitude) for operation in operations]


@compiled()
def draw_steps(seed, ids, policy, height, width, codes, arguments):  # type: ignore[no-untyped-def]
    """Fills codes (B, S) int32 and arguments (B, S) float64 with the steps of each view, S = policy.num_steps.

    ids (B,) uint64; height, width: of the views. Codes and arguments are those of `operation_codes`; a step that does not
    fire is NOTHING.
    """
    for i in range(len(ids)):
        draw_view_steps(seed, ids[i], policy, height, width, codes[i], arguments[i])


@compiled()
def draw_view_steps(seed, view_id, policy, height, width, codes, arguments):  # type: ignore[no-untyped-def]
    """Fills codes (S,) int32 and arguments (S,) float64 with the steps of one view."""
    drawn = np.int64(0)
    for choice in range(policy.num_choices):
        group, drawn = draw_group(seed, view_id, policy, choice, drawn)
        for place in range(policy.group_length):
            step = choice * policy.group_length + place
            codes[step], arguments[step] = draw_step(seed, view_id, policy, group, step, height, width)
    if policy.jitter > 0.0:
        draw_jitter(seed, view_id, policy.jitter, policy.num_steps - JITTER_STEPS, codes, arguments)


@compiled()
def draw_group(seed, view_id, policy, choice, drawn):  # type: ignore[no-untyped-def]
    """(group, drawn) of a choice: by weight, of the groups whose bit in `drawn` is not set; drawn: int64, 0 at first."""
    uniform = rng.uniforms(seed, view_id, rng.POLICY, 2 * choice * policy.group_length)[0]
    num_groups = len(policy.table) // policy.group_length
    if policy.with_replacement:
        return rng.below(uniform, num_groups), drawn
    total = 0.0
    for group in range(num_groups):
        if not (drawn >> group) & 1:
            total += policy.table[group * policy.group_length, 4]
    rest, chosen = uniform * total, np.int64(0)
    for group in range(num_groups):
        if not (drawn >> group) & 1 and rest >= 0.0:
            chosen = np.int64(group)
            rest -= policy.table[group * policy.group_length, 4]
    return chosen, drawn | np.int64(1) << chosen


@compiled()
def draw_step(seed, view_id, policy, group, step, height, width):  # type: ignore[no-untyped-def]
    """(code, argument) of a step, by the operation of a group that is its. Step s draws from blocks 2 s and 2 s + 1."""
    row = group * policy.group_length + step % policy.group_length
    _, fires, sign, other = rng.uniforms(seed, view_id, rng.POLICY, 2 * step)
    code, function = np.int64(policy.table[row, 0]), np.int64(policy.table[row, 1])
    probability, magnitude = policy.table[row, 2], policy.table[row, 3]
    if fires >= probability:
        return np.int64(NOTHING), 0.0
    if policy.deviation == math.inf:
        magnitude *= rng.uniforms(seed, view_id, rng.POLICY, 2 * step + 1)[0]
    elif policy.deviation > 0.0:
        magnitude += policy.deviation * rng.normals(seed, view_id, rng.POLICY, 2 * step + 1)[0]
    magnitude = max(0.0, min(magnitude, policy.max_magnitude))
    return code, argument_of(function, magnitude, sign < 0.5, other, height, width)
