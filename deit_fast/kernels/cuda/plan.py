"""Takes view ids on the device, gives what is drawn for the views, value for value what CPU code draws: a thread for each."""

from __future__ import annotations

from typing import Any

import numpy as np

from deit_fast.kernels import crop, erase, mix
from deit_fast.kernels import policy as policies
from deit_fast.kernels.colour_jitter import NUM_STEPS as JITTER_STEPS
from deit_fast.kernels.colour_jitter import jitter_steps
from deit_fast.kernels.cuda.driver import cuda, device_function, kernel, launch, packed
from deit_fast.kernels.cuda.tables import CUT, ERASED, FLIPPED, HEIGHT, IMAGE, KIND, LAM, PARTNER, SEED, VIEW_ID, WIDTH

THREADS = 128


@device_function
def _draw_crop_of_view(seed, view_id, how, resolution, view, images, crops):  # type: ignore[no-untyped-def]
    """Fills crops[view] with a plan of the image that it says itself: `crop.plan_view`."""
    image = crops[view, IMAGE]
    plan, flipped = crop.plan_view(seed, view_id, how, images[image, HEIGHT], images[image, WIDTH], resolution)
    crops[view, 0], crops[view, 1], crops[view, 2], crops[view, 3] = plan[0], plan[1], plan[2], plan[3]
    crops[view, 4], crops[view, 5], crops[view, 6], crops[view, 7] = plan[4], plan[5], plan[6], plan[7]
    crops[view, FLIPPED] = 1 if flipped else 0


@device_function
def _draw_erased_of_view(seed, view_id, probability, height, width, view, table):  # type: ignore[no-untyped-def]
    """The box of `erase.draw_boxes` into table[view]."""
    y0, y1, x0, x1 = erase.erasing_box(seed, view_id, probability, height, width)
    table[view, ERASED], table[view, ERASED + 1], table[view, ERASED + 2], table[view, ERASED + 3] = y0, y1, x0, x1


@device_function
def _draw_mix_of_view(seed, ids, count, how, height, width, view, table):  # type: ignore[no-untyped-def]
    """One view's part of `mix.draw_mix` into table[view]."""
    shift = mix.batch_shift(seed, np.uint64(ids[0]), count, how.repeats)
    drawn_by, other = mix.paired(view, count, shift, how.mode)
    kind, lam, y0, y1, x0, x1 = mix.view_mix(seed, np.uint64(ids[drawn_by]), how, height, width)
    if other == view or kind == mix.PLAIN:
        other, kind, lam, y0, y1, x0, x1 = view, mix.PLAIN, 1.0, 0, 0, 0, 0
    table[view, PARTNER], table[view, KIND], table[view, LAM] = other, kind, np.float64(lam).view(np.int64)
    table[view, CUT], table[view, CUT + 1], table[view, CUT + 2], table[view, CUT + 3] = y0, y1, x0, x1


@device_function
def _draw_steps_of_view(seed, view_id, policy, height, width, view, steps):  # type: ignore[no-untyped-def]
    """Fills steps[view] (S, 2): `policy.draw_view_steps`, code and argument of each step beside each other."""
    drawn = np.int64(0)
    for choice in range(policy.num_choices):
        group, drawn = policies.draw_group(seed, view_id, policy, choice, drawn)
        for place in range(policy.group_length):
            step = choice * policy.group_length + place
            code, argument = policies.draw_step(seed, view_id, policy, group, step, height, width)
            steps[view, step, 0], steps[view, step, 1] = code, argument
    if policy.jitter > 0.0:
        codes, arguments = jitter_steps(seed, view_id, policy.jitter)
        for i in range(JITTER_STEPS):
            step = policy.num_steps - JITTER_STEPS + i
            steps[view, step, 0], steps[view, step, 1] = codes[i], arguments[i]


@kernel(threads=THREADS)
def _draw_views(seed, ids, count, cropped, policy, mixed, erasing, side, images, crops, steps, table):  # type: ignore[no-untyped-def]
    view = np.int64(cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x)
    if view < count:
        view_id = np.uint64(ids[view])
        if cropped.kind != crop.GIVEN:
            _draw_crop_of_view(seed, view_id, cropped, side, view, images, crops)
        _draw_steps_of_view(seed, view_id, policy, side, side, view, steps)
        _draw_erased_of_view(seed, view_id, erasing, side, side, view, table)
        _draw_mix_of_view(seed, ids, count, mixed, side, side, view, table)
        table[view, VIEW_ID], table[view, SEED] = np.int64(view_id), np.int64(seed)


def policy_of(policy: policies.Policy, table: Any) -> policies.Policy:
    """The policy for kernels: with its table on the device, of `cuda.array`."""
    return policy._replace(table=table)


def draw_views(
    seed: int | np.uint64,
    ids: Any,
    count: int,
    how: tuple[crop.Cropping, policies.Policy, mix.Mixing, float],
    resolution: int,
    images: Any,
    crops: Any,
    steps: Any,
    table: Any,
) -> None:
    """Queues the drawing of all that happens to a batch of `count` views, in one launch. Arrays from `cuda.array`.

    ids (>= count,) int64, the bits of view ids. how: the crops, the policy (of `policy_of`) and the mix, best `packed` once
    for all batches, and the probability of erasing. images (N, IMAGE_LENGTH) and crops (>= count, CROP_LENGTH) int64, of
    `tables`: in the column IMAGE of crops stands which image each view is of, the other columns are written unless crops are
    GIVEN. steps (>= count, S, 2) float64, code and argument of each, and table (>= count, FINISH_LENGTH) int64: written.
    """
    cropped, policy, mixed, erasing = how
    numbers = (np.float64(erasing), np.int64(resolution))
    drawn_by = packed(cropped), packed(policy), packed(mixed)
    arguments = (np.uint64(seed), ids, np.int64(count), *drawn_by, *numbers, images, crops, steps, table)
    launch(_draw_views, -(-count // THREADS), THREADS, *arguments)
