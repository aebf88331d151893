"""Takes view ids on the device, gives what is drawn for the views, value for value what CPU code draws: a thread for each."""

from __future__ import annotations

from typing import Any

import numpy as np

from deit_fast.augment import policy as policies
from deit_fast.augment.colour_jitter import NUM_STEPS as JITTER_STEPS
from deit_fast.augment.colour_jitter import jitter_steps
from deit_fast.augment.cuda import cuda, device_function, kernel, launch

THREADS = 128


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
def _draw_steps(seed, ids, policy, height, width, steps):  # type: ignore[no-untyped-def]
    view = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if view < steps.shape[0]:
        _draw_steps_of_view(seed, np.uint64(ids[view]), policy, height, width, view, steps)


def policy_of(policy: policies.Policy, table: Any) -> policies.Policy:
    """The policy for kernels: with its table on the device, of `cuda.array`."""
    return policy._replace(table=table)


def draw_steps(seed: int, ids: Any, policy: policies.Policy, shape: tuple[int, int], steps: Any) -> None:
    """Queues the drawing of the steps of views: steps (B, S, 2) float64 on the device, code and argument of each.

    ids (B,) int64, the bits of view ids; policy of `policy_of`; shape: height and width of the views.
    """
    height, width = (np.int64(size) for size in shape)
    blocks = -(-steps.shape[0] // THREADS)
    launch(_draw_steps, blocks, THREADS, np.uint64(seed), ids, policy, height, width, steps)
