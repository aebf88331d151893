"""Interpolates eight pixels of a view at a time, bicubically.

In LLVM's own vector operations. The arithmetic is that of `pixel.interpolated` and `pixel.clipped`, in the same order, so the
results are the same to the bit.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from deit_fast.kernels.registers import BYTES, constant, load, order, store, unpack

PIXELS = 8  # made together
QUAD = 4  # bytes of a source's pixel, neighbours on each axis
# The fourth byte of a pixel: with zeros below it and a level in the lowest, 32 bits are 2^23 + level in float32. Differences of
# two such numbers are those of the levels, and need no conversion.
FOURTH_BYTE = 0x4B

_INTS, _FLOATS = ir.VectorType(ir.IntType(32), PIXELS), ir.VectorType(ir.FloatType(), PIXELS)
_PIXELS = ir.VectorType(ir.IntType(32), QUAD)
_PAIRS = ir.VectorType(ir.IntType(64), PIXELS // 2)


def _columns(builder: ir.IRBuilder, addresses: list[ir.Value]) -> list[ir.Value]:
    """Four neighbours on a row of each of eight pixels, as four vectors of the first, second, third and fourth."""
    rows = [load(builder, address, 0, _PIXELS) for address in addresses]
    # pixel i below, pixel i + 4 above
    rows = [builder.shuffle_vector(rows[i], rows[i + 4], order(range(PIXELS))) for i in range(4)]
    columns = []
    for half in (0, 1):
        first, second = (builder.bitcast(unpack(builder, rows[i], rows[i + 1], half), _PAIRS) for i in (0, 2))
        columns += [builder.bitcast(unpack(builder, first, second, which), BYTES) for which in (0, 1)]
    return columns


def _levels(builder: ir.IRBuilder, pixels: ir.Value, channel: int) -> ir.Value:
    """2^23 + the level of a channel of eight pixels, float32."""
    places = [place for i in range(0, BYTES.count, QUAD) for place in (i + channel, 32, 32, i + 3)]
    return builder.bitcast(builder.shuffle_vector(pixels, constant(BYTES, 0), order(places)), _FLOATS)


def _between(builder: ir.IRBuilder, four: list[ir.Value], base: ir.Value, weights: list[ir.Value]) -> ir.Value:
    """`pixel.interpolated` between the second and the third of four, which may all be larger by one number than levels are;
    base: the second without that."""
    before, level, after, second_after = four
    value = base
    for other, weight in zip((before, after, second_after), weights, strict=True):
        value = builder.fadd(value, builder.fmul(weight, builder.fsub(other, level)))
    return value


def _clipped(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """`pixel.clipped`."""
    levels = builder.fptosi(value, _INTS)
    least, greatest = constant(_INTS, 0), constant(_INTS, 255)
    levels = builder.select(builder.icmp_signed(">", levels, least), levels, least)
    return builder.select(builder.icmp_signed("<", levels, greatest), levels, greatest)


@intrinsic
def between_octets(typing_context, source, places, stride, row_weights, column_weights, weights_stride, target):  # type: ignore[no-untyped-def]
    """Writes eight pixels, 24 bytes at target, each between the second and third of four pixels of the second and third of four
    rows.

    source: address of pixels of QUAD bytes, the last of which is FOURTH_BYTE, rows stride bytes apart; places: of eight int32,
    bytes from source to the first of a pixel's neighbours; row_weights, column_weights: of eight float32, weights of the first,
    those of the third and fourth are weights_stride bytes further each.
    """

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        source, places, stride, row_weights, column_weights, weights_stride, target = arguments

        def weights_at(address: ir.Value) -> list[ir.Value]:
            weights = []
            for _ in range(3):
                weights.append(load(builder, address, 0, _FLOATS))
                address = builder.add(address, weights_stride)
            return weights

        first = [builder.sext(load(builder, places, 4 * i, ir.IntType(32)), source.type) for i in range(PIXELS)]
        addresses, rows = [builder.add(source, place) for place in first], []
        for _ in range(QUAD):
            rows.append(_columns(builder, addresses))
            addresses = [builder.add(address, stride) for address in addresses]
        of_rows, of_columns = weights_at(row_weights), weights_at(column_weights)
        pixels = constant(_INTS, 0)
        for channel in range(3):
            columns = []
            for column in range(QUAD):
                four = [_levels(builder, row[column], channel) for row in rows]
                base = builder.fsub(four[1], constant(_FLOATS, float(1 << 23)))
                columns.append(_between(builder, four, base, of_rows))
            level = _clipped(builder, _between(builder, columns, columns[1], of_columns))
            pixels = builder.or_(pixels, builder.shl(level, constant(_INTS, 8 * channel)))
        taken = [place for place in range(QUAD * PIXELS) if place % QUAD < 3]
        parts = builder.bitcast(pixels, BYTES)
        for start, end in ((0, 16), (16, 24)):
            store(builder, builder.shuffle_vector(parts, parts, order(taken[start:end])), target, start)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 7), codegen
