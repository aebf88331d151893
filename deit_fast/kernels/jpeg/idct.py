"""Takes the coefficients of two blocks of 8 x 8 pixels, gives their levels, bit for bit as libjpeg-turbo's accurate DCT.

The transform is that of Loeffler, Ligtenberg and Moschytz in integers, with its rounding, as in libjpeg's jidctint.c. Where a
damaged JPEG makes numbers too large for 16 bits they wrap and saturate where libjpeg-turbo's vector code makes them do so.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from deit_fast.kernels.jpeg.vectors import Vector, bytes_of, load_vector, products, widened

FRACTION_BITS = 13  # of the constants
PASS_BITS = 2  # more than those of a level, kept between columns and rows
LARGE = 1 << 13  # a sound block has no dequantised coefficient near this


def _fixed(number: float) -> int:
    return round(number * (1 << FRACTION_BITS))


C_0_298, C_0_390, C_0_541, C_0_765 = _fixed(0.298631336), _fixed(0.390180644), _fixed(0.541196100), _fixed(0.765366865)
C_0_899, C_1_175, C_1_501, C_1_847 = _fixed(0.899976223), _fixed(1.175875602), _fixed(1.501321110), _fixed(1.847759065)
C_1_961, C_2_053, C_2_562, C_3_072 = _fixed(1.961570560), _fixed(2.053119869), _fixed(2.562915447), _fixed(3.072711026)


def _transform(x: list[Vector], shift: int) -> list[Vector]:
    """One-dimensional transform of eight 16-bit vectors, without the lowest `shift` bits, bounded to 16 bits."""
    even = widened(x[0] + x[4], FRACTION_BITS), widened(x[0] - x[4], FRACTION_BITS)
    turned = products(x[2], x[6], (C_0_541, C_0_541 - C_1_847)), products(x[2], x[6], (C_0_541 + C_0_765, C_0_541))
    even_part = even[0] + turned[1], even[1] + turned[0], even[1] - turned[0], even[0] - turned[1]
    first, second = x[7] + x[3], x[5] + x[1]
    z3 = products(first, second, (C_1_175 - C_1_961, C_1_175))
    z4 = products(first, second, (C_1_175, C_1_175 - C_0_390))
    odd_part = (
        products(x[7], x[1], (-C_0_899, C_1_501 - C_0_899)) + z4,
        products(x[5], x[3], (-C_2_562, C_3_072 - C_2_562)) + z3,
        products(x[5], x[3], (C_2_053 - C_2_562, -C_2_562)) + z4,
        products(x[7], x[1], (C_0_298 - C_0_899, -C_0_899)) + z3,
    )
    sums = [a + b for a, b in zip(even_part, odd_part, strict=True)]
    differences = [a - b for a, b in zip(even_part, odd_part, strict=True)]
    return [wide.rounded(shift).saturated() for wide in sums + differences[::-1]]


def turned(rows: list[Vector]) -> list[Vector]:
    """Rows of two 8 x 8 blocks side by side, as their columns: three times, vector i is interleaved with vector i + 4."""
    for _ in range(3):
        rows = [rows[i].unpacked(rows[i + 4], half) for i in range(4) for half in (0, 1)]
    return rows


def _turned_levels(columns: list[Vector]) -> list[Vector]:
    """Columns of two blocks, 16 bits, as four vectors of levels: two rows of the one block, and the same two of the other."""
    lines = [bytes_of(columns[i], columns[i + 1]) for i in (0, 2, 4, 6)]
    for _ in range(3):
        lines = [lines[i].unpacked(lines[i + 2], half) for i in (0, 1) for half in (0, 1)]
    return lines


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
        columns = _transform(rows, FRACTION_BITS - PASS_BITS)
        lines = _turned_levels(_transform(turned(columns), FRACTION_BITS + PASS_BITS + 3))
        for number, target in enumerate((first_target, second_target)):
            for row in range(8):
                start = 16 * number + row % 2 * 8
                place = builder.add(target, builder.mul(stride, ir.Constant(stride.type, row)))
                lines[row // 2].shuffled(lines[row // 2], range(start, start + 8)).store(place)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 7), codegen
