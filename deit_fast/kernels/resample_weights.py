"""Weights of the pairs of pixels that the outputs of an axis see, eight outputs at a time.

An output sees a handful of pixels, over which a loop is no work for vectors. Here a vector has a number of each of eight
outputs: pixel k of each, from its first one on. The numbers are those of `filters`, made in the same order.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from deit_fast.kernels import pairs
from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.filters import BICUBIC, most_taps, shown, shrinking, taps, weight_at
from deit_fast.kernels.registers import constant, in_each_lane, load, store
from deit_fast.kernels.weigh import PRECISION_BITS

_OUTPUTS = 8  # of a block
_ROW = 8 * _OUTPUTS  # bytes of a row of a block, a float64 for each output
_BEGINS, _AHEAD, _ENDS, _CENTRES, _TOTALS, _WEIGHTS = range(6)  # rows; from _WEIGHTS on, one for each pixel
# int32 of a block: always, and for each pair that an output may see
BLOCK_LENGTH, PAIR_LENGTH = 2 * _OUTPUTS * _WEIGHTS, 4 * _OUTPUTS
MORE_OUTPUTS = _OUTPUTS - 1  # whose coefficients are written behind those of the last output

_NUMBERS, _INTS, _WORDS = (ir.VectorType(kind, _OUTPUTS) for kind in (ir.DoubleType(), ir.IntType(32), ir.IntType(64)))


@compiled()
def most_pairs(kind, axis):  # type: ignore[no-untyped-def]
    """Upper bound on pairs of pixels for each output of an axis."""
    return most_taps(kind, axis) // 2 + 1


def _cubic(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    """`filters`' of the same name, of positive numbers."""

    def number(value: float) -> ir.Constant:
        return constant(_NUMBERS, value)

    near = builder.fsub(builder.fmul(number(1.5), x), number(2.5))
    near = builder.fadd(builder.fmul(builder.fmul(near, x), x), number(1.0))
    far = builder.fadd(builder.fmul(builder.fsub(x, number(5.0)), x), number(8.0))
    far = builder.fmul(builder.fsub(builder.fmul(far, x), number(4.0)), number(-0.5))
    far = builder.select(builder.fcmp_ordered("<", x, number(2.0)), far, number(0.0))
    return builder.select(builder.fcmp_ordered("<", x, number(1.0)), near, far)


@intrinsic
def _fill_cubic(typing_context, block, reciprocal, num_pixels):  # type: ignore[no-untyped-def]
    """Fills the rows of weights in a block of scratch, an address; pixels beyond an output's own get weights too."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        block, reciprocal, num_pixels = arguments
        begins, centres = (load(builder, block, _ROW * row, _NUMBERS) for row in (_BEGINS, _CENTRES))
        scale = in_each_lane(builder, reciprocal, _NUMBERS)
        magnitude = constant(_WORDS, (1 << 63) - 1)
        with cgutils.for_range(builder, num_pixels) as loop:
            pixels = builder.fadd(begins, in_each_lane(builder, builder.sitofp(loop.index, ir.DoubleType()), _NUMBERS))
            distances = builder.fadd(builder.fsub(pixels, centres), constant(_NUMBERS, 0.5))
            distances = builder.bitcast(builder.fmul(distances, scale), _WORDS)
            weights = _cubic(builder, builder.bitcast(builder.and_(distances, magnitude), _NUMBERS))
            place = builder.add(block, builder.mul(loop.index, ir.Constant(loop.index.type, _ROW)))
            store(builder, weights, place, _ROW * _WEIGHTS)
        return context.get_dummy_value()

    return types.void(types.intp, types.float64, types.intp), codegen


@intrinsic
def _sum_up(typing_context, block, num_pixels):  # type: ignore[no-untyped-def]
    """Makes weights of pixels that do not count 0, and fills the row of their sums, with 1 where it is 0."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        block, num_pixels = arguments
        ahead, ends = (load(builder, block, _ROW * row, _NUMBERS) for row in (_AHEAD, _ENDS))
        zero, one = constant(_NUMBERS, 0.0), constant(_NUMBERS, 1.0)
        totals = cgutils.alloca_once_value(builder, zero)
        with cgutils.for_range(builder, num_pixels) as loop:
            place = builder.add(block, builder.mul(loop.index, ir.Constant(loop.index.type, _ROW)))
            weights = load(builder, place, _ROW * _WEIGHTS, _NUMBERS)
            number = in_each_lane(builder, builder.sitofp(loop.index, ir.DoubleType()), _NUMBERS)
            counts = builder.and_(builder.fcmp_ordered("<=", ahead, number), builder.fcmp_ordered("<", number, ends))
            weights = builder.select(counts, weights, zero)
            store(builder, weights, place, _ROW * _WEIGHTS)
            builder.store(builder.fadd(builder.load(totals), weights), totals)
        sums = builder.load(totals)
        store(builder, builder.select(builder.fcmp_ordered("==", sums, zero), one, sums), block, _ROW * _TOTALS)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp), codegen


def _fixed(builder: ir.IRBuilder, weights: ir.Value, totals: ir.Value) -> ir.Value:
    """`filters.coefficient`."""
    weights = builder.fmul(builder.fdiv(weights, totals), constant(_NUMBERS, float(1 << PRECISION_BITS)))
    is_negative = builder.fcmp_ordered("<", weights, constant(_NUMBERS, 0.0))
    half = builder.select(is_negative, constant(_NUMBERS, -0.5), constant(_NUMBERS, 0.5))
    return builder.fptosi(builder.fadd(weights, half), _INTS)


@intrinsic
def _pack(typing_context, block, num_pairs, coefficients, stride):  # type: ignore[no-untyped-def]
    """Writes a block's weights as `pairs` takes them, for each output from coefficients on, an address, stride bytes apart.
    Whether all may be used."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        block, num_pairs, coefficients, stride = arguments
        totals = load(builder, block, _ROW * _TOTALS, _NUMBERS)
        is_large = cgutils.alloca_once_value(builder, constant(ir.VectorType(ir.IntType(1), _OUTPUTS), 0))
        targets = [builder.add(coefficients, builder.mul(stride, ir.Constant(stride.type, k))) for k in range(_OUTPUTS)]
        with cgutils.for_range(builder, num_pairs) as loop:
            place = builder.add(block, builder.mul(loop.index, ir.Constant(loop.index.type, 2 * _ROW)))
            two = [load(builder, place, _ROW * (_WEIGHTS + k), _NUMBERS) for k in (0, 1)]
            low, high, large = pairs.packed(builder, *(_fixed(builder, weights, totals) for weights in two))
            builder.store(builder.or_(builder.load(is_large), large), is_large)
            shift = constant(_WORDS, 32)
            words = builder.or_(builder.zext(low, _WORDS), builder.shl(builder.zext(high, _WORDS), shift))
            offset = builder.mul(loop.index, ir.Constant(loop.index.type, 8))
            for k, target in enumerate(targets):
                store(builder, builder.extract_element(words, ir.Constant(ir.IntType(32), k)), builder.add(target, offset))
        found = builder.bitcast(builder.load(is_large), ir.IntType(_OUTPUTS))
        return builder.icmp_unsigned("==", found, ir.Constant(found.type, 0))

    return types.boolean(*[types.intp] * 4), codegen


@compiled()
def _plan_block(kind, axis, start, count, mirrored, origin, block, bounds):  # type: ignore[no-untyped-def]
    """Fills bounds and the first rows of a block: first pixel of the first pair; pixels from it to the first that counts, and
    to the end of those; centre. Gives the largest number of pairs. Outputs beyond the last are like it."""
    _, _, _, _, full, first = axis
    most = np.int64(0)
    for j in range(_OUTPUTS):
        i = min(start + j, count - 1)
        low, high, centre = taps(kind, axis, shown(first + (count - 1 - i if mirrored else i), full))
        begin = low - ((low - origin) & 1)
        num_pairs = (high - begin + 1) // 2
        block[_BEGINS, j], block[_AHEAD, j], block[_ENDS, j], block[_CENTRES, j] = begin, low - begin, high - begin, centre
        bounds[2 * i] = (begin - origin) // 2
        bounds[2 * i + 1] = num_pairs
        most = max(most, num_pairs)
    return most


@compiled()
def pair_weights(kind, axis, count, mirrored, origin, block, bounds, coefficients):  # type: ignore[no-untyped-def]
    """Fills, for each output of a view: bounds (count x (first pair, number of pairs), flat) int32, pairs counted from pixel
    `origin` on, and coefficients, an address of count x most_pairs x 2 int32 and as many again as MORE_OUTPUTS have. Whether
    all weights are small enough.

    block: scratch, flat float64, of BLOCK_LENGTH + PAIR_LENGTH * most_pairs int32.
    """
    reciprocal = 1.0 / shrinking(axis)
    stride = 8 * most_pairs(kind, axis)
    rows = block.reshape(block.size // _OUTPUTS, _OUTPUTS)
    are_small = True
    for start in range(0, count, _OUTPUTS):
        most = _plan_block(kind, axis, start, count, mirrored, origin, rows, bounds)
        if kind == BICUBIC:
            _fill_cubic(block.ctypes.data, reciprocal, 2 * most)
        else:
            for k in range(2 * most):
                for j in range(_OUTPUTS):
                    rows[_WEIGHTS + k, j] = weight_at(kind, rows[_BEGINS, j] + k, rows[_CENTRES, j], reciprocal)
        _sum_up(block.ctypes.data, 2 * most)
        are_small &= _pack(block.ctypes.data, most, coefficients + start * stride, stride)
    return are_small
