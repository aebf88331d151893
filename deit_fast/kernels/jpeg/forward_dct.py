"""Takes the levels of two blocks of 8 x 8 pixels, gives their quantised coefficients, bit for bit as libjpeg-turbo.

The transform is its accurate DCT (jfdctint.c); quantisation multiplies by reciprocals (jcdctmgr.c).
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from deit_fast.kernels.jpeg.idct import (
    C_0_298,
    C_0_390,
    C_0_541,
    C_0_765,
    C_0_899,
    C_1_175,
    C_1_501,
    C_1_847,
    C_1_961,
    C_2_053,
    C_2_562,
    C_3_072,
    FRACTION_BITS,
    PASS_BITS,
    turned,
)
from deit_fast.kernels.jpeg.vectors import Vector, load_vector, products

RECIPROCAL, CORRECTION, SCALE = range(3)


def divisors(quantization: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """(3, 8, 16) uint16 for `transform_pair`, from a quantisation table (64,) row by row: each row of eight twice.

    jcdctmgr.c's compute_reciprocal: a number plus the correction, times the reciprocal, times the scale, both times without
    the lower 16 bits, is the number over eight times the quantisation, rounded.
    """
    found = np.zeros((3, 64), np.uint16)
    for place, factor in enumerate(quantization.tolist()):
        divisor = 8 * factor
        bits = 16 + divisor.bit_length() - 1
        reciprocal, remainder = divmod(1 << bits, divisor)
        correction = divisor // 2
        if remainder == 0:
            reciprocal, bits = reciprocal >> 1, bits - 1
        elif remainder <= divisor // 2:
            correction += 1
        else:
            reciprocal += 1
        found[:, place] = reciprocal, correction, 1 << (32 - bits)
    rows = found.reshape(3, 8, 8)
    return np.concatenate([rows, rows], axis=2)


def _transform(x: list[Vector], is_first: bool) -> list[Vector]:
    """One-dimensional transform of eight vectors of 16 bits, in which all sums of a block of levels fit."""
    shift = FRACTION_BITS - PASS_BITS if is_first else FRACTION_BITS + PASS_BITS
    sums = [x[i] + x[7 - i] for i in range(4)]
    tmp7, tmp6, tmp5, tmp4 = (x[i] - x[7 - i] for i in range(4))
    tmp10, tmp13, tmp11, tmp12 = sums[0] + sums[3], sums[0] - sums[3], sums[1] + sums[2], sums[1] - sums[2]
    outer = tmp10 + tmp11, tmp10 - tmp11
    first, middle = (v << PASS_BITS if is_first else v.rounded(PASS_BITS) for v in outer)
    z3, z4 = tmp4 + tmp6, tmp5 + tmp7
    odd = products(z3, z4, (C_1_175 - C_1_961, C_1_175)), products(z3, z4, (C_1_175, C_1_175 - C_0_390))
    turned_ones = (
        products(tmp7, tmp4, (C_1_501 - C_0_899, -C_0_899)) + odd[1],
        products(tmp13, tmp12, (C_0_541 + C_0_765, C_0_541)),
        products(tmp6, tmp5, (C_3_072 - C_2_562, -C_2_562)) + odd[0],
        products(tmp5, tmp6, (C_2_053 - C_2_562, -C_2_562)) + odd[1],
        products(tmp13, tmp12, (C_0_541, C_0_541 - C_1_847)),
        products(tmp4, tmp7, (C_0_298 - C_0_899, -C_0_899)) + odd[0],
    )
    one, two, three, five, six, seven = (wide.rounded(shift).saturated() for wide in turned_ones)
    return [first, one, two, three, middle, five, six, seven]


def _high_half(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    """The upper 16 of the 32 bits of products of 16-bit numbers without sign."""
    wide = ir.VectorType(ir.IntType(32), a.type.count)
    product = builder.mul(builder.zext(a, wide), builder.zext(b, wide))
    return builder.trunc(builder.lshr(product, ir.Constant(wide, [16] * a.type.count)), a.type)


def _quantised(builder: ir.IRBuilder, row: Vector, table: ir.Value, number: int) -> Vector:
    kind = row.value.type
    reciprocal, correction, scale = (
        load_vector(builder, table, 256 * part + 32 * number, 16, 16).value for part in (RECIPROCAL, CORRECTION, SCALE)
    )
    sign = builder.ashr(row.value, ir.Constant(kind, [15] * 16))
    size = builder.sub(builder.xor(row.value, sign), sign)
    size = _high_half(builder, _high_half(builder, builder.add(size, correction), reciprocal), scale)
    return Vector(builder, builder.sub(builder.xor(size, sign), sign))


@intrinsic
def transform_pair(typing_context, first, second, stride, table, first_target, second_target, masks):  # type: ignore[no-untyped-def]
    """Writes the coefficients of two blocks, all as addresses.

    first, second: of the first of eight levels of a row, and bytes from one row to the next; table: `divisors`; targets: of 64
    int16 each; masks: of two uint64, bit 8 * row + column of which is set where a coefficient is not 0.
    """

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        first, second, stride, table, first_target, second_target, masks = arguments
        rows = []
        for row in range(8):
            step = builder.mul(stride, ir.Constant(stride.type, row))
            both = [load_vector(builder, builder.add(block, step), 0, 8, 8) for block in (first, second)]
            rows.append(both[0].joined(both[1]).unsigned(16) - 128)
        columns = _transform(turned(rows), True)
        found = [_quantised(builder, v, table, row) for row, v in enumerate(_transform(turned(columns), False))]
        bits = ir.IntType(8)
        for row, v in enumerate(found):
            nonzero = builder.icmp_signed("!=", v.value, ir.Constant(v.value.type, [0] * 16))
            packed = builder.bitcast(nonzero, ir.IntType(16))
            for number, target in enumerate((first_target, second_target)):
                v.shuffled(v, range(8 * number, 8 * number + 8)).store(target, 16 * row)
                byte = builder.trunc(builder.lshr(packed, ir.Constant(packed.type, 8 * number)), bits)
                place = builder.inttoptr(builder.add(masks, ir.Constant(masks.type, 8 * number + row)), bits.as_pointer())
                builder.store(byte, place, align=1)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 7), codegen
