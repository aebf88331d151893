"""Registers of 256 bits in LLVM's representation: what AVX2 does to them, for intrinsics that are made of its instructions.

Such a register has two parts of 128 bits. Most instructions that move lanes work on each part by itself: unpacking interleaves
the lower or the upper halves of two registers' parts, and packing undoes that.
"""

from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

INT8, INT16, INT32 = (ir.IntType(bits) for bits in (8, 16, 32))
BYTES, WORDS, INTS = ir.VectorType(INT8, 32), ir.VectorType(INT16, 16), ir.VectorType(INT32, 8)


def constant(kind: ir.Type, number: float) -> ir.Constant:
    """A register with the same number in each lane; or the number itself, where the kind is none of registers."""
    return ir.Constant(kind, [number] * kind.count if isinstance(kind, ir.VectorType) else number)


def order(lanes: list[int] | range) -> ir.Constant:
    """The order of a shuffle."""
    return ir.Constant(ir.VectorType(INT32, len(lanes)), list(lanes))


def pointer(builder: ir.IRBuilder, address: ir.Value, offset: int, kind: ir.Type) -> ir.Value:
    """A pointer from an address, an integer, and an offset in bytes."""
    return builder.inttoptr(builder.add(address, ir.Constant(address.type, offset)), kind.as_pointer())


def load(builder: ir.IRBuilder, address: ir.Value, offset: int, kind: ir.Type) -> ir.Value:
    """What lies at an address, which need not be a multiple of anything."""
    return builder.load(pointer(builder, address, offset, kind), align=1)


def store(builder: ir.IRBuilder, value: ir.Value, address: ir.Value, offset: int = 0) -> None:
    """The reverse of `load`."""
    builder.store(value, pointer(builder, address, offset, value.type), align=1)


def in_each_lane(builder: ir.IRBuilder, value: ir.Value, kind: ir.Type) -> ir.Value:
    """A register with a value in each lane."""
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), value, ir.Constant(INT32, 0))
    return builder.shuffle_vector(single, single, order([0] * kind.count))


def unpacked_lanes(count: int, half: int) -> list[int]:
    """The lanes that `unpack` takes of two registers of `count` lanes, the second's from `count` on."""
    quarter = count // 4
    starts = [2 * part * quarter + half * quarter for part in (0, 1)]
    return [side * count + start + lane for start in starts for lane in range(quarter) for side in (0, 1)]


def unpack(builder: ir.IRBuilder, first: ir.Value, second: ir.Value, half: int) -> ir.Value:
    """The lower (0) or upper (1) halves of the parts of two registers, interleaved: punpckl.. and punpckh.."""
    return builder.shuffle_vector(first, second, order(unpacked_lanes(first.type.count, half)))


def avx2(builder: ir.IRBuilder, name: str, kind: ir.Type, *arguments: ir.Value) -> ir.Value:
    """The result, of a kind, of an instruction of AVX2, by LLVM's name for it, such as "pmadd.wd"."""
    signature = ir.FunctionType(kind, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, signature, f"llvm.x86.avx2.{name}"), arguments)
