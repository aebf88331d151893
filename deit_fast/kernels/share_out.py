"""Takes pieces of work of unequal size, gives each thread the next one when it is free.

Numba cuts a `prange` into equal parts beforehand; with images of different sizes and operations of different cost, threads
then wait for the slowest part. The pattern, in a function compiled with parallel=True:

    counter = np.zeros(1, np.int64)
    for worker in prange(num_workers):          # each worker has its own scratch memory, by this number
        piece = take(counter.ctypes.data)
        while piece < num_pieces:
            ...
            piece = take(counter.ctypes.data)

Which worker does a piece is left to chance; what a piece gives must not depend on it.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def take(typing_context, address):  # type: ignore[no-untyped-def]
    """Value of the int64 at an address, which is one more afterwards, for all threads: no two get the same."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        pointer = builder.inttoptr(arguments[0], ir.IntType(64).as_pointer())
        return builder.atomic_rmw("add", pointer, ir.Constant(ir.IntType(64), 1), "monotonic")

    return types.int64(types.intp), codegen
