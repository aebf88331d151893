"""Applies operations to views, on the CPU, as Pillow's operations do it.

Codes of operations, and what their one argument means, are in `operation_table`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange, types
from numpy.typing import NDArray

from deit_fast.kernels.apart import Apart
from deit_fast.kernels.by_code import call_of, choosing, function_of
from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.operation_table import CODES, OPERATIONS, Operation
from deit_fast.kernels.share_out import take


def scratch_bytes(height: int, width: int) -> int:
    """Length of the uint8 scratch that `apply` needs for a view of this size."""
    most = max(operation.scratch_bytes(height, width) for operation in OPERATIONS if operation.scratch_bytes)
    return -(-most // 64) * 64


def _loop_of(operation: Operation) -> Any:
    """The operation's own loop, or one over levels: over flat memory, so that LLVM makes vectors of it."""
    if operation.loop:
        return operation.loop
    text = f"""def {operation.name}(levels, argument):
    for i in range(levels.size):
        level = levels[i]
        levels[i] = {call_of("by_level", operation.by_level)}
"""
    return compiled()(function_of(text, {"by_level": operation.by_level}, __name__))


# One operation, in place. code: of `CODES`, or NOTHING; argument float64; bicubic, fill, view and scratch as `Operation` has
# them, the scratch (scratch_bytes(H, W),)
apply = compiled()(
    choosing(
        "apply(code, argument, bicubic, fill, view, scratch)",
        {CODES[operation.name]: _loop_of(operation) for operation in OPERATIONS},
        __name__,
        setup=("levels = view.reshape(view.size)", "factor = np.float32(argument)"),
    )
)
APPLY = Apart(
    apply,
    types.void(
        types.int32, types.float64, types.boolean, types.UniTuple(types.int64, 3), types.uint8[:, :, ::1], types.uint8[::1]
    ),
)
_call_apply = APPLY.call


@compiled(parallel=True)
def apply_all_by(apply_at, codes, arguments, bicubic, fill, views, scratch):  # type: ignore[no-untyped-def]
    """`apply_all`; apply_at: APPLY.address."""
    counter = np.zeros(1, np.int64)
    for worker in prange(scratch.shape[0]):
        view = take(counter.ctypes.data)
        while view < views.shape[0]:
            for step in range(codes.shape[1]):
                _call_apply(apply_at, codes[view, step], arguments[view, step], bicubic, fill, views[view], scratch[worker])
            view = take(counter.ctypes.data)


def apply_all(
    codes: NDArray[np.int32],
    arguments: NDArray[np.float64],
    bicubic: bool,
    fill: tuple[int, ...],
    views: NDArray[np.uint8],
    scratch: NDArray[np.uint8],
) -> None:
    """`apply` to a batch: S operations after each other on each view, views shared out among the rows of the scratch.

    codes (B, S) int32; arguments (B, S) float64; views (B, H, W, 3) uint8, in place; scratch (num_workers,
    scratch_bytes(H, W)) uint8. What comes out does not depend on the number of workers.
    """
    apply_all_by(APPLY.address, codes, arguments, bicubic, fill, views, scratch)
