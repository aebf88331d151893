"""Weighted sums of bytes, two lines at a time, with the instructions of AVX2 that multiply pairs and add the products.

A weight is h * 2^16 + l, in which l is a signed 16-bit number. A line of pairs holds a byte of a line and the byte of the next
line in turns. One instruction (pmaddubsw) sums h0 * b0 + h1 * b1 of 16 pairs in 16 bits, two (pmaddwd) sum l0 * b0 + l1 * b1 in
32 bits. A 32-bit product for each byte would take two slow instructions on Intel's processors, and a slow widening everywhere.
The sum is exact: what overflows in the sums of h lies above the 32 bits of the result; and h fits, since
`packed` says where it does not.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.registers import (
    BYTES,
    INT8,
    INT16,
    INT32,
    INTS,
    WORDS,
    avx2,
    constant,
    in_each_lane,
    load,
    order,
    store,
    unpack,
)
from deit_fast.kernels.weigh import PRECISION_BITS

ROWS = 16  # of a block that is turned: eight in the lower half of each register, eight in the upper
GROUP = 4  # pixels of a row turned at a time
GROUP_BYTES = 16  # that are read for them, of which 12 matter
PAIR_BYTES = 3 * 2 * ROWS  # of two neighbouring columns of a block: red, green and blue
OUTPUTS = 8  # neighbouring outputs of a block that become rows of pairs together
LANES = 32  # bytes of a row weighed at a time

_HALF_BYTES = ir.VectorType(INT8, 16)
_MOST_HIGH = 128  # sum of the magnitudes of h0 and h1, times 255, that 16 bits hold


def _weighed(
    builder: ir.IRBuilder, count: int, pairs_of: Callable[[ir.Value], list[ir.Value]], weights: ir.Value, num_pairs: ir.Value
) -> list[ir.Value]:
    """The rounded sums of `count` registers of 16 pairs, as words that are not yet bounded to bytes, in order.

    pairs_of: the registers of a pair of lines, by its number; weights: address of two int32 of `packed` for each.
    """
    # low sums of the first and of the second half of each half register, and high sums
    sums = [[cgutils.alloca_once(builder, kind) for kind in (INTS, INTS, WORDS)] for _ in range(count)]
    for first, second, high in sums:
        for low in (first, second):
            builder.store(constant(INTS, 1 << (PRECISION_BITS - 1)), low)
        builder.store(constant(WORDS, 0), high)

    def accumulate(sum_of: ir.Value, name: str, *factors: ir.Value) -> None:
        product = avx2(builder, name, sum_of.type.pointee, *factors)
        builder.store(builder.add(builder.load(sum_of), product), sum_of)

    with cgutils.for_range(builder, num_pairs) as loop:
        place = builder.add(weights, builder.mul(loop.index, ir.Constant(loop.index.type, 8)))
        of_low = builder.bitcast(in_each_lane(builder, load(builder, place, 0, INT32), INTS), WORDS)
        of_high = builder.bitcast(in_each_lane(builder, load(builder, place, 4, INT16), WORDS), BYTES)
        for pairs, own in zip(pairs_of(loop.index), sums, strict=True):
            for half in (0, 1):
                words = builder.bitcast(unpack(builder, pairs, constant(BYTES, 0), half), WORDS)
                accumulate(own[half], "pmadd.wd", words, of_low)
            accumulate(own[2], "pmadd.ub.sw", pairs, of_high)
    results = []
    for own in sums:
        levels = []
        for half in (0, 1):
            high = builder.bitcast(unpack(builder, constant(WORDS, 0), builder.load(own[2]), half), INTS)
            total = builder.add(builder.load(own[half]), high)
            levels.append(builder.ashr(total, constant(INTS, PRECISION_BITS)))
        results.append(avx2(builder, "packssdw", WORDS, *levels))
    return results


@intrinsic
def turn_to_pairs(typing_context, source, stride, num_rows, target):  # type: ignore[no-untyped-def]
    """Turns 4 pixels of 16 rows into two pairs of columns, 2 * PAIR_BYTES at target.

    source: address of the first pixel, of which GROUP_BYTES are read in each row, rows stride bytes apart; num_rows: of which
    the last stands for those that are missing.
    """

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        source, stride, num_rows, target = arguments
        last = builder.sub(num_rows, ir.Constant(num_rows.type, 1))

        def row(number: int) -> ir.Value:
            index = ir.Constant(last.type, number)
            index = builder.select(builder.icmp_signed("<", index, last), index, last)
            return load(builder, builder.add(source, builder.mul(stride, index)), 0, _HALF_BYTES)

        # r0 r1 g0 g1 b0 b1 r2 r3 g2 g3 b2 b3 of a row, of row i below and of row i + 8 above
        places = [6 * pair + channel + 3 * k for pair in (0, 1) for channel in range(3) for k in (0, 1)] + [12, 13, 14, 15]
        of_both = order(places + [16 + place for place in places])
        rows = []
        for number in range(ROWS // 2):
            both = builder.shuffle_vector(row(number), row(number + 8), order(range(32)))
            rows.append(builder.bitcast(builder.shuffle_vector(both, both, of_both), WORDS))
        for _ in range(3):
            rows = [unpack(builder, rows[i], rows[i + 4], half) for i in range(4) for half in (0, 1)]
        for number in range(6):
            store(builder, rows[number], target, 32 * number)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4), codegen


@intrinsic
def weigh_column(typing_context, source, weights, num_pairs, target):  # type: ignore[no-untyped-def]
    """One output of 16 rows: 48 words at target, from num_pairs pairs of columns from source on, as addresses.

    The words are those of red, green and blue, 16 each, and are not yet bounded to bytes.
    """

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        source, weights, num_pairs, target = arguments

        def pairs_of(index: ir.Value) -> list[ir.Value]:
            address = builder.add(source, builder.mul(index, ir.Constant(index.type, PAIR_BYTES)))
            return [load(builder, address, 32 * channel, BYTES) for channel in range(3)]

        for channel, words in enumerate(_weighed(builder, 3, pairs_of, weights, num_pairs)):
            store(builder, words, target, 32 * channel)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4), codegen


@intrinsic
def turn_to_rows(typing_context, source, target, stride):  # type: ignore[no-untyped-def]
    """Turns 8 values of 16 rows into 8 pairs of rows: 16 bytes each at target, stride bytes apart.

    source: address of 16 words for each value, as `weigh_column` writes them.
    """

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        source, target, stride = arguments
        words = [load(builder, source, 32 * number, WORDS) for number in range(8)]
        # each register: rows 0 to 7 of two values below, rows 8 to 15 above; a word is a pair of rows
        packed = [avx2(builder, "packuswb", BYTES, words[number], words[number + 1]) for number in range(0, 8, 2)]
        values = [builder.bitcast(value, WORDS) for value in packed]
        even = [unpack(builder, values[i], values[i + 2], 0) for i in (0, 1)]  # values 0 4, and 2 6
        odd = [unpack(builder, values[i], values[i + 2], 1) for i in (0, 1)]  # values 1 5, and 3 7
        pairs = []
        for half in (0, 1):
            of_even, of_odd = unpack(builder, *even, half), unpack(builder, *odd, half)
            pairs += [unpack(builder, of_even, of_odd, which) for which in (0, 1)]
        for number, value in enumerate(pairs):
            for side in (0, 1):
                part = builder.shuffle_vector(value, value, order(range(8 * side, 8 * side + 8)))
                store(builder, part, builder.add(target, builder.mul(stride, ir.Constant(stride.type, number + 4 * side))))
        return context.get_dummy_value()

    return types.void(*[types.intp] * 3), codegen


@intrinsic
def _weigh_lanes(typing_context, source, stride, weights, num_pairs, target):  # type: ignore[no-untyped-def]
    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        source, stride, weights, num_pairs, target = arguments

        def pairs_of(index: ir.Value) -> list[ir.Value]:
            address = builder.add(source, builder.mul(index, stride))
            return [load(builder, address, 0, BYTES), load(builder, address, 32, BYTES)]

        levels = avx2(builder, "packuswb", BYTES, *_weighed(builder, 2, pairs_of, weights, num_pairs))
        words = builder.bitcast(levels, ir.VectorType(ir.IntType(64), 4))  # which were packed half by half
        store(builder, builder.shuffle_vector(words, words, order([0, 2, 1, 3])), target)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5), codegen


@compiled()
def weigh_row(source, weights, num_pairs, target, length):  # type: ignore[no-untyped-def]
    """A row of `length` >= LANES bytes at target, from num_pairs pairs of rows, of 2 * length bytes each, from source on."""
    stride = 2 * length
    for j in range(0, length - LANES, LANES):
        _weigh_lanes(source + 2 * j, stride, weights, num_pairs, target + j)
    # the last block overlaps the one before where the length is no multiple
    last = length - LANES
    _weigh_lanes(source + 2 * last, stride, weights, num_pairs, target + last)


def packed(builder: ir.IRBuilder, first: ir.Value, second: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """(low halves, high halves) of pairs of int32 weights as the others here take them, and where they may not be used, each a
    vector as long as first and second."""

    def number(value: int) -> ir.Constant:
        return constant(first.type, value)

    highs = [builder.ashr(builder.add(weight, number(1 << 15)), number(16)) for weight in (first, second)]
    low = builder.or_(builder.and_(first, number((1 << 16) - 1)), builder.shl(second, number(16)))
    bytes_of_high = [builder.and_(high, number((1 << 8) - 1)) for high in highs]
    of_high = builder.or_(bytes_of_high[0], builder.shl(bytes_of_high[1], number(8)))
    sizes = [builder.select(builder.icmp_signed("<", high, number(0)), builder.neg(high), high) for high in highs]
    too_large = builder.icmp_signed(">", builder.add(*sizes), number(_MOST_HIGH))
    for high in highs:
        too_large = builder.or_(too_large, builder.icmp_signed(">=", high, number(_MOST_HIGH)))
    return low, of_high, too_large
