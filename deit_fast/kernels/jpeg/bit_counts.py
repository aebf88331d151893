"""Numbers of bits in a word that are set, or zero at its ends, as the processor counts them."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


def _counted(typing_context: Any, how: str) -> tuple[Any, Any]:
    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return getattr(builder, how)(arguments[0], ir.Constant(ir.IntType(1), 0))

    return types.uint64(types.uint64), codegen


@intrinsic
def leading_zeros(typing_context, word):  # type: ignore[no-untyped-def]
    """Zeros above the highest bit that is set; 64 if none is."""
    return _counted(typing_context, "ctlz")


@intrinsic
def trailing_zeros(typing_context, word):  # type: ignore[no-untyped-def]
    """Zeros below the lowest bit that is set; 64 if none is."""
    return _counted(typing_context, "cttz")


@intrinsic
def set_bits(typing_context, word):  # type: ignore[no-untyped-def]
    """Number of bits that are set."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), codegen
