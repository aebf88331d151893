"""Takes float32 numbers, gives them rounded to float16 or bfloat16, to the nearest, ties to even, as uint16 bits."""

from __future__ import annotations

import platform

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.processor import has

FLOAT32 = 0
FLOAT16 = 1
BFLOAT16 = 2
PRECISIONS = {"float32": FLOAT32, "float16": FLOAT16, "bfloat16": BFLOAT16}


def _has_float16_instructions() -> bool:
    """Whether what Numba compiles for rounds to float16 itself; where not, LLVM calls a function that nobody has."""
    return platform.machine().lower() in ("arm64", "aarch64") or has("f16c")


@intrinsic
def _truncated_to_half(typing_context, value):  # type: ignore[no-untyped-def]
    """Bits of a float32 rounded to float16 by the processor's instruction for it."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.bitcast(builder.fptrunc(arguments[0], ir.HalfType()), ir.IntType(16))

    return types.uint16(types.float32), codegen


@compiled(inlined=True)
def half_bits_by_integers(value):  # type: ignore[no-untyped-def]
    """Bits of a finite float32 rounded to float16, in integer arithmetic: the same on every device."""
    bits = np.float32(value).view(np.uint32)
    magnitude = np.uint32(bits & np.uint32(0x7FFFFFFF))
    sign = np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(0x8000))
    # a normal float16: exponent rebased from 127 to 15, mantissa cut from 23 bits to 10, plus just under one half, or one
    # half where the last bit kept is 1
    odd = np.uint32(np.uint32(magnitude >> np.uint32(13)) & np.uint32(1))
    normal = np.uint32(np.uint32(magnitude - np.uint32(112 << 23) + np.uint32(0xFFF) + odd) >> np.uint32(13))
    # below 2**-14 a float16 is a multiple of 2**-24, as are the last bits of a float32 sum with 1/2
    small = np.float32(magnitude.view(np.float32) + np.float32(0.5)).view(np.uint32)
    subnormal = np.uint32(small - np.uint32(0x3F000000))
    result = subnormal if magnitude < np.uint32(113 << 23) else normal
    # from 65520 on: infinity
    result = np.uint32(0x7C00) if magnitude >= np.uint32(0x477FF000) else result
    return np.uint16(result | sign)


if _has_float16_instructions():

    @compiled(inlined=True)
    def half_bits(value):  # type: ignore[no-untyped-def]
        """Bits of a finite float32 rounded to float16."""
        return _truncated_to_half(np.float32(value))

else:
    half_bits = half_bits_by_integers


@compiled(inlined=True)
def bfloat16_bits(value):  # type: ignore[no-untyped-def]
    """Bits of a finite float32 rounded to bfloat16."""
    bits = np.float32(value).view(np.uint32)
    odd = np.uint32(np.uint32(bits >> np.uint32(16)) & np.uint32(1))
    return np.uint16(np.uint32(bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))


@compiled()
def round_row(row, precision, rounded):  # type: ignore[no-untyped-def]
    """Fills rounded (N,) uint16 with the bits of row (N,) float32 in precision FLOAT16 or BFLOAT16."""
    if precision == FLOAT16:
        for i in range(np.uint64(len(row))):
            rounded[i] = half_bits(row[i])
    else:
        for i in range(np.uint64(len(row))):
            rounded[i] = bfloat16_bits(row[i])
