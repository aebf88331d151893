"""Takes LLVM's vectors of integers, gives them operators, so that what is computed on many pixels at once reads like a formula.

For intrinsics of loops that LLVM does not turn into good vector code by itself. The vectors have a fixed number of lanes;
LLVM spreads them over as many registers as the machine needs for them.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from deit_fast.kernels import registers
from deit_fast.kernels.processor import has

_HAS_AVX2 = has("avx2")


class Vector:
    """Signed integers side by side; arithmetic wraps as theirs does. The other operand may be one integer for all lanes."""

    def __init__(self, builder: ir.IRBuilder, value: ir.Value) -> None:
        self.builder = builder
        self.value = value

    @property
    def lanes(self) -> int:
        lanes: int = self.value.type.count
        return lanes

    def _same(self, number: int) -> ir.Constant:
        return ir.Constant(self.value.type, [number] * self.lanes)

    def _operand(self, other: Vector | int) -> ir.Value:
        return self._same(other) if isinstance(other, int) else other.value

    def __add__(self, other: Vector | int) -> Vector:
        return Vector(self.builder, self.builder.add(self.value, self._operand(other)))

    def __sub__(self, other: Vector | int) -> Vector:
        return Vector(self.builder, self.builder.sub(self.value, self._operand(other)))

    def __mul__(self, other: Vector | int) -> Vector:
        return Vector(self.builder, self.builder.mul(self.value, self._operand(other)))

    def __or__(self, other: Vector | int) -> Vector:
        return Vector(self.builder, self.builder.or_(self.value, self._operand(other)))

    def __and__(self, other: Vector | int) -> Vector:
        return Vector(self.builder, self.builder.and_(self.value, self._operand(other)))

    def __lshift__(self, bits: int) -> Vector:
        return Vector(self.builder, self.builder.shl(self.value, self._same(bits)))

    def __rshift__(self, bits: int) -> Vector:
        return Vector(self.builder, self.builder.ashr(self.value, self._same(bits)))

    def rounded(self, bits: int) -> Vector:
        """Without its lowest bits, half of which is added."""
        return (self + (1 << (bits - 1))) >> bits

    def _type(self, bits: int) -> ir.VectorType:
        return ir.VectorType(ir.IntType(bits), self.lanes)

    def signed(self, bits: int) -> Vector:
        """In so many more bits, with the sign kept."""
        return Vector(self.builder, self.builder.sext(self.value, self._type(bits)))

    def unsigned(self, bits: int) -> Vector:
        """In so many more bits, as a number without sign."""
        return Vector(self.builder, self.builder.zext(self.value, self._type(bits)))

    def bounded(self, least: int, most: int, bits: int) -> Vector:
        """In so many fewer bits, bounded on both sides before."""
        builder, low, high = self.builder, self._same(least), self._same(most)
        value = builder.select(builder.icmp_signed("<", self.value, low), low, self.value)
        value = builder.select(builder.icmp_signed(">", value, high), high, value)
        return Vector(builder, builder.trunc(value, self._type(bits)))

    def high_half_of_product(self, factor: int) -> Vector:
        """The upper 16 of the 32 bits of a product of 16-bit numbers."""
        product = (self.signed(32) * factor) >> 16
        return Vector(self.builder, self.builder.trunc(product.value, self.value.type))

    def shuffled(self, other: Vector, order: Sequence[int]) -> Vector:
        """Lanes in an order of both vectors' lanes, the other's behind."""
        mask = ir.Constant(ir.VectorType(ir.IntType(32), len(order)), list(order))
        return Vector(self.builder, self.builder.shuffle_vector(self.value, other.value, mask))

    def joined(self, other: Vector) -> Vector:
        """Both, one behind the other."""
        return self.shuffled(other, range(2 * self.lanes))

    def interleaved(self, other: Vector) -> Vector:
        """Both, lane by lane."""
        return self.shuffled(other, [lane // 2 + lane % 2 * self.lanes for lane in range(2 * self.lanes)])

    def unpacked(self, other: Vector, half: int) -> Vector:
        """The lower (0) or upper (1) halves of the 128-bit parts of both, interleaved, as x86 does it in one instruction."""
        return self.shuffled(other, registers.unpacked_lanes(self.lanes, half))

    def store(self, address: ir.Value, offset: int = 0) -> None:
        registers.store(self.builder, self.value, address, offset)


class Wide:
    """32-bit numbers for the 16 lanes of a 16-bit vector: of the lower halves of its two parts, and of the upper halves."""

    def __init__(self, low: Vector, high: Vector) -> None:
        self.halves = low, high

    def __add__(self, other: Wide) -> Wide:
        low, high = (a + b for a, b in zip(self.halves, other.halves, strict=True))
        return Wide(low, high)

    def __sub__(self, other: Wide) -> Wide:
        low, high = (a - b for a, b in zip(self.halves, other.halves, strict=True))
        return Wide(low, high)

    def rounded(self, bits: int) -> Wide:
        low, high = (v.rounded(bits) for v in self.halves)
        return Wide(low, high)

    def saturated(self) -> Vector:
        """The vector of 16-bit numbers, bounded to these."""
        low, high = self.halves
        if _HAS_AVX2:
            return Vector(low.builder, registers.avx2(low.builder, "packssdw", registers.WORDS, low.value, high.value))
        return low.shuffled(high, [0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 12, 13, 14, 15]).bounded(-(1 << 15), (1 << 15) - 1, 16)


def products(first: Vector, second: Vector, factors: tuple[int, int]) -> Wide:
    """The sums of two 16-bit vectors of 16 lanes, each times a 16-bit factor."""
    halves = []
    for half in (0, 1):
        pairs = first.unpacked(second, half)
        if _HAS_AVX2:
            both = ir.Constant(registers.WORDS, list(factors) * 8)
            value = registers.avx2(first.builder, "pmadd.wd", registers.INTS, pairs.value, both)
            halves.append(Vector(first.builder, value))
        else:
            even, odd = (pairs.shuffled(pairs, range(start, 16, 2)).signed(32) for start in (0, 1))
            halves.append(even * factors[0] + odd * factors[1])
    return Wide(*halves)


def widened(vector: Vector, bits: int) -> Wide:
    """A 16-bit vector of 16 lanes, times 2^bits, up to 2^16."""
    zero = Vector(vector.builder, registers.constant(vector.value.type, 0))
    halves = []
    for half in (0, 1):
        value = vector.builder.bitcast(zero.unpacked(vector, half).value, registers.INTS)  # which are in the upper 16 bits
        halves.append(Vector(vector.builder, value) >> (16 - bits))
    return Wide(*halves)


def bytes_of(first: Vector, second: Vector) -> Vector:
    """Levels from two 16-bit vectors of 16 lanes, 128 added and bounded to bytes: the parts of both in turns."""
    if _HAS_AVX2:
        value = registers.avx2(first.builder, "packsswb", registers.BYTES, first.value, second.value)
    else:
        both = first.shuffled(second, [*range(8), *range(16, 24), *range(8, 16), *range(24, 32)])
        value = both.bounded(-128, 127, 8).value
    return Vector(first.builder, value) + 128


def load_vector(builder: ir.IRBuilder, address: ir.Value, offset: int, bits: int, lanes: int) -> Vector:
    """The integers of so many bits that lie from an address and an offset in bytes on."""
    return Vector(builder, registers.load(builder, address, offset, ir.VectorType(ir.IntType(bits), lanes)))
