"""Takes the coefficients of two blocks of 8 x 8 pixels, gives their levels, bit for bit as libjpeg-turbo's accurate DCT.

The transform is that of Loeffler, Ligtenberg and Moschytz in integers, with its rounding, as in libjpeg's jidctint.c. Where a
damaged JPEG makes numbers too large for 16 bits they wrap and saturate where libjpeg-turbo's vector code makes them do so.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from deit_fast.kernels.jpeg.vectors import Vector, load_vector

FRACTION_BITS = 13  # of the constants
PASS_BITS = 2  # more than those of a level, kept between columns and rows
LARGE = 1 << 13  # a sound block has no dequantised coefficient near this


def _fixed(number: float) -> int:
    return round(number * (1 << FRACTION_BITS))


C_0_298, C_0_390, C_0_541, C_0_765 = _fixed(0.298631336), _fixed(0.390180644), _fixed(0.541196100), _fixed(0.765366865)
C_0_899, C_1_175, C_1_501, C_1_847 = _fixed(0.899976223), _fixed(1.175875602), _fixed(1.501321110), _fixed(1.847759065)
C_1_961, C_2_053, C_2_562, C_3_072 = _fixed(1.961570560), _fixed(2.053119869), _fixed(2.562915447), _fixed(3.072711026)


def _transform(x: list[Vector], shift: int) -> list[Vector]:
    """One-dimensional transform of eight 16-bit vectors, without the lowest `shift` bits, in 32 bits."""
    wide = [v.signed(32) for v in x]
    even = (x[0] + x[4]).signed(32) << FRACTION_BITS, (x[0] - x[4]).signed(32) << FRACTION_BITS
    turned = wide[2] * C_0_541 + wide[6] * (C_0_541 - C_1_847), wide[2] * (C_0_541 + C_0_765) + wide[6] * C_0_541
    even_part = even[0] + turned[1], even[1] + turned[0], even[1] - turned[0], even[0] - turned[1]
    first, second = (x[7] + x[3]).signed(32), (x[5] + x[1]).signed(32)
    z3 = first * (C_1_175 - C_1_961) + second * C_1_175
    z4 = first * C_1_175 + second * (C_1_175 - C_0_390)
    odd_part = (
        wide[7] * -C_0_899 + wide[1] * (C_1_501 - C_0_899) + z4,
        wide[5] * -C_2_562 + wide[3] * (C_3_072 - C_2_562) + z3,
        wide[5] * (C_2_053 - C_2_562) + wide[3] * -C_2_562 + z4,
        wide[7] * (C_0_298 - C_0_899) + wide[1] * -C_0_899 + z3,
    )
    sums = [a + b for a, b in zip(even_part, odd_part, strict=True)]
    differences = [a - b for a, b in zip(even_part, odd_part, strict=True)]
    return [v.rounded(shift) for v in sums + differences[::-1]]


def turned(rows: list[Vector]) -> list[Vector]:
    """Rows of two 8 x 8 blocks side by side, as their columns: three times, vector i is interleaved with vector i + 4."""
    low = [lane // 2 + lane % 2 * 16 + half for half in (0, 8) for lane in range(8)]
    high = [lane + 4 for lane in low]
    for _ in range(3):
        rows = [rows[i].shuffled(rows[i + 4], order) for i in range(4) for order in (low, high)]
    return rows


@intrinsic
def transform_blocks(typing_context, first, second, quantization, first_target, second_target, stride, too_large):  # type: ignore[no-untyped-def]
    """Writes the levels of two blocks, all as addresses.

    first, second: 64 int16 coefficients each, row by row; quantization: their factors, (8, 16) int16, each row twice; targets:
    of the first of eight bytes of a row, and bytes from one row to the next; too_large: 16 int16, which are not all 0 after
    coefficients too large for any sound JPEG.
    """

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        first, second, quantization, first_target, second_target, stride, too_large = arguments
        rows = []
        for row in range(8):
            both = load_vector(builder, first, 16 * row, 16, 8).joined(load_vector(builder, second, 16 * row, 16, 8))
            rows.append(both * load_vector(builder, quantization, 32 * row, 16, 16))
        # libjpeg-turbo's vector code does not saturate these where a block has no others: never mind which, they are refused
        found = ((rows[0] + LARGE) & ~(2 * LARGE - 1)) | load_vector(builder, too_large, 0, 16, 16)
        found.store(too_large)
        columns = [v.bounded(-(1 << 15), (1 << 15) - 1, 16) for v in _transform(rows, FRACTION_BITS - PASS_BITS)]
        levels = _transform(turned(columns), FRACTION_BITS + PASS_BITS + 3)
        lines = [(v + 128).bounded(0, 255, 8) for v in levels]
        for _ in range(3):
            pairs = [(lines[i], lines[i + 4]) for i in range(4)]
            joined = [a.interleaved(b) for a, b in pairs]
            lines = [v.shuffled(v, range(start, start + 16)) for v in joined for start in (0, 16)]
        for number, target in enumerate((first_target, second_target)):
            for row in range(8):
                line, half = lines[4 * number + row // 2], row % 2 * 8
                place = builder.add(target, builder.mul(stride, ir.Constant(stride.type, row)))
                line.shuffled(line, range(half, half + 8)).store(place)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 7), codegen
