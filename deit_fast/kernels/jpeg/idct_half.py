"""Takes the coefficients of four blocks of 8 x 8 pixels, gives 4 x 4 levels of each, bit for bit as libjpeg-turbo at half size.

The transform is that of libjpeg's jidctred.c, in the integers of `idct`: the mean of each 2 x 2 levels, nearly. It takes all
coefficients but those of the fifth row and column.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from deit_fast.kernels.jpeg.idct import C_0_765, C_0_899, C_1_847, C_2_562, FRACTION_BITS, LARGE, PASS_BITS
from deit_fast.kernels.jpeg.vectors import Vector, bytes_of, load_vector, products, widened

SIZE = 4  # of the side of a block's levels
_ROWS = (0, 1, 2, 3, 5, 6, 7)


def _fixed(number: float) -> int:
    return round(number * (1 << FRACTION_BITS))


_C_0_211, _C_0_509, _C_0_601 = _fixed(0.211164243), _fixed(0.509795579), _fixed(0.601344887)
_C_1_061, _C_1_451, _C_2_172 = _fixed(1.061594337), _fixed(1.451774981), _fixed(2.172734803)


def _transform(x: dict[int, Vector], shift: int) -> list[Vector]:
    """One-dimensional transform of seven 16-bit vectors to four, without the lowest `shift` bits, bounded to 16 bits."""
    even = widened(x[0], FRACTION_BITS + 1)
    turned = products(x[2], x[6], (C_1_847, -C_0_765))
    inner = products(x[7], x[5], (-_C_0_211, _C_1_451)) + products(x[3], x[1], (-_C_2_172, _C_1_061))
    outer = products(x[7], x[5], (-_C_0_509, -_C_0_601)) + products(x[3], x[1], (C_0_899, C_2_562))
    first, second = even + turned, even - turned
    return [wide.rounded(shift).saturated() for wide in (first + outer, second + inner, second - inner, first - outer)]


def _turned(halves: list[list[Vector]]) -> dict[int, Vector]:
    """Four rows of 8 of two blocks side by side, and of two others, as columns of 4 of all, by number: a block in 64 bits."""
    columns: dict[int, list[Vector]] = {number: [] for number in _ROWS}
    for rows in halves:
        for half in (0, 1):  # of the columns; a part of 128 bits is a block
            even, odd = (rows[i].unpacked(rows[i + 2], half) for i in (0, 1))
            for pair in (0, 1):
                both = even.unpacked(odd, pair)
                for side in (0, 1):
                    number = 4 * half + 2 * pair + side
                    if number in columns:
                        lanes = [8 * block + 4 * side + row for block in (0, 1) for row in range(SIZE)]
                        columns[number].append(both.shuffled(both, lanes))
    return {number: first.joined(second) for number, (first, second) in columns.items()}


def _lines(columns: list[Vector]) -> list[Vector]:
    """Columns of four blocks, 16 bits, as four rows of 16 levels, in 32 bits four of them."""
    both = bytes_of(columns[0], columns[2]), bytes_of(columns[1], columns[3])
    pairs = [_of_bits(both[0].unpacked(both[1], half), 16) for half in (0, 1)]
    first, second = (_of_bits(pairs[0].unpacked(pairs[1], half), 32) for half in (0, 1))
    return [first.shuffled(second, [row, 8 + row, 4 + row, 12 + row]) for row in range(SIZE)]


def _of_bits(vector: Vector, bits: int) -> Vector:
    """The same 256 bits, in lanes of so many."""
    return Vector(vector.builder, vector.builder.bitcast(vector.value, ir.VectorType(ir.IntType(bits), 256 // bits)))


@intrinsic
def transform_quad(typing_context, first, second, third, fourth, quantization, target, stride, too_large):  # type: ignore[no-untyped-def]
    """Writes 4 rows of 16 levels: of four blocks, side by side. All are addresses.

    first to fourth: 64 int16 coefficients each, row by row; quantization: their factors, (8, 16) int16, each row twice;
    target: of the first of 16 bytes of a row; stride: bytes from one row to the next; too_large: as for
    `idct.transform_blocks`.
    """

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        *blocks, quantization, target, stride, too_large = arguments
        found = load_vector(builder, too_large, 0, 16, 16)
        halves = []
        for pair in (blocks[:2], blocks[2:]):
            rows = {}
            for row in _ROWS:
                both = load_vector(builder, pair[0], 16 * row, 16, 8).joined(load_vector(builder, pair[1], 16 * row, 16, 8))
                rows[row] = both * load_vector(builder, quantization, 32 * row, 16, 16)
            found = ((rows[0] + LARGE) & ~(2 * LARGE - 1)) | found
            halves.append(_transform(rows, FRACTION_BITS - PASS_BITS + 1))
        found.store(too_large)
        levels = _transform(_turned(halves), FRACTION_BITS + PASS_BITS + 3 + 1)
        for row, line in enumerate(_lines(levels)):
            line.store(builder.add(target, builder.mul(stride, ir.Constant(stride.type, row))))
        return context.get_dummy_value()

    return types.void(*[types.intp] * 8), codegen
