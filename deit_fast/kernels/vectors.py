"""Copies bytes and interpolates pixels, at addresses, a vector register at a time.

In LLVM's own vector operations, which it turns into those of any processor. The arithmetic is that of `pixel.interpolated`
and `pixel.clipped`, in the same order, so the results are the same to the bit.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from deit_fast.kernels.compiled import compiled

LANES = 16  # bytes of a row

_INT = ir.IntType(32)
_BYTES = ir.VectorType(ir.IntType(8), LANES)
_INTS = ir.VectorType(_INT, LANES)
_FLOATS = ir.VectorType(ir.FloatType(), LANES)


def _pointer(builder, address, offset, element):  # type: ignore[no-untyped-def]
    if offset is not None:
        address = builder.add(address, offset)
    return builder.inttoptr(address, element.as_pointer())


def _load(builder, address, offset, element, align):  # type: ignore[no-untyped-def]
    value = builder.load(_pointer(builder, address, offset, element))
    value.align = align
    return value


def _four_rows(builder, source, stride):  # type: ignore[no-untyped-def]
    """16 bytes of each of four rows, as floats."""
    rows, offset = [], None
    for _ in range(4):
        row = _load(builder, source, offset, _BYTES, 1)
        rows.append(builder.sitofp(builder.zext(row, _INTS), _FLOATS))
        offset = stride if offset is None else builder.add(offset, stride)
    return rows


def _between_rows(builder, rows, weights):  # type: ignore[no-untyped-def]
    """pixel.interpolated."""
    before, level, after, second_after = rows
    value = level
    for row, weight in zip((before, after, second_after), weights, strict=True):
        value = builder.fadd(value, builder.fmul(weight, builder.fsub(row, level)))
    return value


def _store_clipped(builder, value, target):  # type: ignore[no-untyped-def]
    """pixel.clipped, as bytes."""
    lanes = value.type.count
    ints = ir.VectorType(_INT, lanes)
    value = builder.fptosi(value, ints)
    least, greatest = ir.Constant(ints, [0] * lanes), ir.Constant(ints, [255] * lanes)
    value = builder.select(builder.icmp_signed(">", value, least), value, least)
    value = builder.select(builder.icmp_signed("<", value, greatest), value, greatest)
    bytes_type = ir.VectorType(ir.IntType(8), lanes)
    builder.store(builder.trunc(value, bytes_type), _pointer(builder, target, None, bytes_type), align=1)


@intrinsic
def load_word(typing_context, address):  # type: ignore[no-untyped-def]
    """Eight bytes as uint64, from any address."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return _load(builder, arguments[0], None, ir.IntType(64), 1)

    return types.uint64(types.intp), codegen


@intrinsic
def load_halfword(typing_context, address):  # type: ignore[no-untyped-def]
    """Two bytes as int64, from any address."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.zext(_load(builder, arguments[0], None, ir.IntType(16), 1), ir.IntType(64))

    return types.int64(types.intp), codegen


@intrinsic
def store_word(typing_context, address, word):  # type: ignore[no-untyped-def]
    """The reverse of load_word."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        builder.store(arguments[1], _pointer(builder, arguments[0], None, ir.IntType(64)), align=1)
        return context.get_dummy_value()

    return types.void(types.intp, types.uint64), codegen


@intrinsic
def copy_memory(typing_context, target, source, count):  # type: ignore[no-untyped-def]
    """Copies count bytes between two addresses; in a loop over rows, where a slice of an array would take longer."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        target, source, count = arguments
        pointers = [builder.inttoptr(address, cgutils.voidptr_t) for address in (target, source)]
        cgutils.raw_memcpy(builder, *pointers, count, 1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), codegen


@compiled()
def copy_bytes(source, target):  # type: ignore[no-untyped-def]
    """target[:] = source, contiguous, of one type, that do not overlap, of any shape; 20 times as fast as that assignment."""
    copy_memory(target.ctypes.data, source.ctypes.data, min(source.nbytes, target.nbytes))


@compiled()
def floats(scratch, start, count):  # type: ignore[no-untyped-def]
    """count float32 in the scratch from the next multiple of 8 bytes after start on."""
    start += -(scratch.ctypes.data + start) % 8
    return scratch[start : start + 4 * count].view(np.float32)


@intrinsic
def between_rows(typing_context, source, stride, weights, weights_stride, target):  # type: ignore[no-untyped-def]
    """Writes 16 bytes at target: between 16 bytes of the row `stride` after source and of the next, for each byte.

    source: address in the first of four rows, stride bytes apart; weights: address of 16 float32 for the first row, those for
    the third and fourth are weights_stride bytes further each.
    """

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        source, stride, weights, weights_stride, target = arguments
        twice = builder.add(weights_stride, weights_stride)
        row_weights = [_load(builder, weights, offset, _FLOATS, 4) for offset in (None, weights_stride, twice)]
        value = _between_rows(builder, _four_rows(builder, source, stride), row_weights)
        _store_clipped(builder, value, target)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5), codegen
