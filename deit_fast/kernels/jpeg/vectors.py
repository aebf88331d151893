"""Takes LLVM's vectors of integers, gives them operators, so that what is computed on many pixels at once reads like a formula.

For intrinsics of loops that LLVM does not turn into good vector code by itself. The vectors have a fixed number of lanes;
LLVM spreads them over as many registers as the machine needs for them.
"""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir


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

    def store(self, address: ir.Value, offset: int = 0) -> None:
        self.builder.store(self.value, _pointer(self.builder, address, offset, self.value.type), align=1)


def _pointer(builder: ir.IRBuilder, address: ir.Value, offset: int, kind: ir.Type) -> ir.Value:
    return builder.inttoptr(builder.add(address, ir.Constant(address.type, offset)), kind.as_pointer())


def load_vector(builder: ir.IRBuilder, address: ir.Value, offset: int, bits: int, lanes: int) -> Vector:
    """The integers of so many bits that lie from an address and an offset in bytes on."""
    kind = ir.VectorType(ir.IntType(bits), lanes)
    return Vector(builder, builder.load(_pointer(builder, address, offset, kind), align=1))
