"""Copies bytes inside compiled code by the C library's memcpy, which is several times as fast as a loop over a slice."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from deit_fast.kernels.compiled import compiled


@intrinsic
def _memcpy(typing_context, target, source, num_bytes):  # type: ignore[no-untyped-def]
    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        target, source = (builder.inttoptr(address, ir.IntType(8).as_pointer()) for address in arguments[:2])
        cgutils.raw_memcpy(builder, target, source, arguments[2], 1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), codegen


@compiled()
def copy_bytes(target, at, source, start, end):  # type: ignore[no-untyped-def]
    """Copies source[start:end] to target from `at` on: (n,) uint8, contiguous, of other memory. Bounds are the caller's."""
    _memcpy(target.ctypes.data + at, source.ctypes.data + start, np.int64(end - start))
