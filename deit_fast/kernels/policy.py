"""Takes a policy, gives the steps that it draws for views.

A policy is a table of operations in groups. For a view, `num_choices` groups are drawn, and each operation of a drawn group is
a step: RandAugment draws n groups of one, AutoAugment one group of two (a sub-policy), 3-Augment one of one. Colour jitter
comes after.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from deit_fast.kernels import rng
from deit_fast.kernels.by_code import choosing
from deit_fast.kernels.colour_jitter import NUM_STEPS as JITTER_STEPS
from deit_fast.kernels.colour_jitter import draw_jitter
from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.operation_table import LEVEL_FUNCTIONS, NOTHING


class Policy(NamedTuple):
    """What is drawn for each view; a named tuple, since Numba takes these as arguments. Made by `augment.policy.parse`."""

    table: np.ndarray  # (groups x group_length, 5) float64: operation code, level function, probability, magnitude, weight
    group_length: int
    num_choices: int  # groups drawn for a view
    with_replacement: bool
    deviation: float  # of magnitudes; inf: uniform from 0 to the magnitude
    max_magnitude: float
    jitter: float  # strength of colour jitter; 0: none
    num_steps: int  # of a view, those that do nothing included
    interpolation: int  # of operations that move pixels, as in `resample.FILTERS`


# Argument of an operation, float64. function: number in LEVEL_FUNCTIONS; magnitude: clipped by the policy, >= 0; is_negative:
# the sign where there is one; uniform: on [0, 1), for what is random itself; height and width of the view
argument_of = compiled()(
    choosing(
        "argument_of(function, magnitude, is_negative, uniform, height, width)",
        dict(enumerate(LEVEL_FUNCTIONS)),
        __name__,
        setup=("level, sign = magnitude / 10.0, -1.0 if is_negative else 1.0",),
        otherwise="return 0.0",
    )
)


@compiled()
def draw_steps(seed, ids, policy, height, width, codes, arguments):  # type: ignore[no-untyped-def]
    """Fills codes (B, S) int32 and arguments (B, S) float64 with the steps of each view, S = policy.num_steps.

    ids (B,) uint64; height, width: of the views. Codes and arguments are those of `operation_table`; a step that does not
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
