"""Takes lines of bytes and a weight for each, gives the line of their weighted sums, as Pillow's resampling rounds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.transpose import BLOCK, void_pointer

PRECISION_BITS = 22  # of the fraction in a weight
LANES = 64  # bytes summed at a time: four registers of sixteen int32, or eight of eight


def _make_weigh(lanes: int) -> Callable[..., Any]:
    """An intrinsic (source, stride, weights, num_lines, target) for lines of `lanes` bytes, all as addresses.

    The sums stay in registers from the first line to the last: written as a loop over arrays, LLVM keeps them in memory, and
    they are loaded and stored once for each line (measured: 2 to 4 times the time).
    """
    int32 = ir.IntType(32)
    # in parts of one register: LLVM splits wider types by halves, and 48 has none that fit
    offsets = range(0, lanes, BLOCK)
    bytes_type, sums_type = ir.VectorType(ir.IntType(8), BLOCK), ir.VectorType(int32, BLOCK)

    def splat(builder, value):  # type: ignore[no-untyped-def]
        single = builder.insert_element(ir.Constant(sums_type, ir.Undefined), value, ir.Constant(int32, 0))
        return builder.shuffle_vector(single, single, ir.Constant(ir.VectorType(int32, BLOCK), [0] * BLOCK))

    def bounded(builder, relation, values, bound):  # type: ignore[no-untyped-def]
        limit = ir.Constant(sums_type, [bound] * BLOCK)
        return builder.select(builder.icmp_signed(relation, values, limit), limit, values)

    def pointer(builder, address, offset):  # type: ignore[no-untyped-def]
        return builder.inttoptr(builder.add(address, ir.Constant(address.type, offset)), bytes_type.as_pointer())

    @intrinsic
    def weigh_block(typing_context, source, stride, weights, num_lines, target):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            source, stride, weights, num_lines, target = arguments
            all_sums = [cgutils.alloca_once(builder, sums_type) for _ in offsets]
            for sums in all_sums:
                builder.store(ir.Constant(sums_type, [1 << (PRECISION_BITS - 1)] * BLOCK), sums)
            with cgutils.for_range(builder, num_lines) as loop:
                address = builder.add(source, builder.mul(stride, loop.index))
                place = builder.add(weights, builder.mul(loop.index, ir.Constant(loop.index.type, 4)))
                weight = splat(builder, builder.load(builder.inttoptr(place, int32.as_pointer()), align=4))
                for sums, offset in zip(all_sums, offsets, strict=True):
                    line = builder.load(pointer(builder, address, offset), align=1)
                    product = builder.mul(builder.zext(line, sums_type), weight)
                    builder.store(builder.add(builder.load(sums), product), sums)
            shift = ir.Constant(sums_type, [PRECISION_BITS] * BLOCK)
            for sums, offset in zip(all_sums, offsets, strict=True):
                levels = builder.ashr(builder.load(sums), shift)
                levels = bounded(builder, ">", bounded(builder, "<", levels, 0), 255)
                builder.store(builder.trunc(levels, bytes_type), pointer(builder, target, offset), align=1)
            return context.get_dummy_value()

        return types.void(types.intp, types.intp, types.intp, types.intp, types.intp), codegen

    intrinsic_function: Callable[..., Any] = weigh_block
    return intrinsic_function


_weigh_lanes = _make_weigh(LANES)
weigh_transposed = _make_weigh(3 * BLOCK)  # for what lies as `transpose` leaves three columns of bytes


@compiled()
def to_grey_level(accumulated):  # type: ignore[no-untyped-def]
    """uint8 from a sum of weights times grey levels, to which half a level was added."""
    return min(max(accumulated >> PRECISION_BITS, 0), 255)


@compiled()
def weigh(source, stride, weights, num_lines, target, length):  # type: ignore[no-untyped-def]
    """Byte j of the target = the rounded sum over lines i of weight i times byte j of line i.

    source, weights, target: addresses of the first line, of int32 weights in units of 2**-22, and of the line to write; stride:
    bytes from one line to the next; length: bytes of a line. Neither reads nor writes outside the lines.
    """
    if length < LANES:
        total = carray(void_pointer(target), (length,), types.uint8)
        factors = carray(void_pointer(weights), (num_lines,), types.int32)
        for j in range(length):
            accumulated = 1 << (PRECISION_BITS - 1)
            for i in range(num_lines):
                accumulated += factors[i] * carray(void_pointer(source + i * stride + j), (1,), types.uint8)[0]
            total[j] = to_grey_level(accumulated)
        return
    for j in range(0, length - LANES, LANES):
        _weigh_lanes(source + j, stride, weights, num_lines, target + j)
    # the last block overlaps the one before where the length is no multiple
    last = length - LANES
    _weigh_lanes(source + last, stride, weights, num_lines, target + last)
