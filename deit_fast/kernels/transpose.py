"""Takes lines of bytes, gives their columns as lines: what lies a line apart comes to lie side by side, for vectors."""

from __future__ import annotations

from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from deit_fast.kernels.compiled import compiled

BLOCK = 16  # bytes in a vector register, lines in a block

_BYTES = ir.VectorType(ir.IntType(8), BLOCK)
_MASK = ir.VectorType(ir.IntType(32), BLOCK)
_LOW_HALVES = ir.Constant(_MASK, [lane // 2 + lane % 2 * BLOCK for lane in range(BLOCK)])
_HIGH_HALVES = ir.Constant(_MASK, [BLOCK // 2 + lane // 2 + lane % 2 * BLOCK for lane in range(BLOCK)])


@intrinsic
def _turn_block(typing_context, source, source_stride, target, target_stride):  # type: ignore[no-untyped-def]
    """Turns 16 lines of 16 bytes: addresses of the first bytes, and bytes from one line to the next.

    Four times, line i is interleaved with line i + 8: 64 shuffles for 256 bytes, where moving each byte takes 512 steps.
    """

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        source, source_stride, target, target_stride = arguments

        def pointer(base, stride, line):  # type: ignore[no-untyped-def]
            offset = builder.mul(stride, ir.Constant(stride.type, line))
            return builder.inttoptr(builder.add(base, offset), _BYTES.as_pointer())

        lines = []
        for line in range(BLOCK):
            value = builder.load(pointer(source, source_stride, line))
            value.align = 1
            lines.append(value)
        for _ in range(4):
            pairs = [(lines[i], lines[i + BLOCK // 2]) for i in range(BLOCK // 2)]
            lines = [builder.shuffle_vector(*pair, mask) for pair in pairs for mask in (_LOW_HALVES, _HIGH_HALVES)]
        for line, value in enumerate(lines):
            builder.store(value, pointer(target, target_stride, line), align=1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.intp), codegen


@intrinsic
def void_pointer(typing_context, address):  # type: ignore[no-untyped-def]
    """A pointer from an integer."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return types.voidptr(types.intp), codegen


@compiled()
def transpose(source, source_stride, num_lines, num_columns, target, target_stride):  # type: ignore[no-untyped-def]
    """Byte j of line i of the source becomes byte i of line j of the target.

    source, target: addresses of the first lines; the strides are bytes from one line to the next. All bytes of num_lines
    lines of num_columns, and of num_columns lines of num_lines, must be the caller's.
    """
    whole_lines, whole_columns = num_lines - num_lines % BLOCK, num_columns - num_columns % BLOCK
    for i in range(0, whole_lines, BLOCK):
        for j in range(0, whole_columns, BLOCK):
            _turn_block(source + i * source_stride + j, source_stride, target + j * target_stride + i, target_stride)
    for i in range(num_lines):
        line = carray(void_pointer(source + i * source_stride), (num_columns,), types.uint8)
        for j in range(whole_columns if i < whole_lines else 0, num_columns):
            carray(void_pointer(target + j * target_stride), (num_lines,), types.uint8)[i] = line[j]
