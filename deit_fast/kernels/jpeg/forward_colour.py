"""Takes rows of RGB pixels, gives rows of luma and chroma, bit for bit as libjpeg-turbo (jccolor.c, jcsample.c)."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from deit_fast.kernels.jpeg.vectors import Vector, load_vector

CHUNK = 32  # pixels converted at a time

_BITS = 16  # behind the point of the weights
_HALF = 1 << (_BITS - 1)
_CENTRE = (128 << _BITS) + _HALF - 1


def _fixed(number: float) -> int:
    return int(number * (1 << _BITS) + 0.5)


# Weights of red, green and blue, and what is added to their sum
LUMA = (_fixed(0.29900), _fixed(0.58700), _fixed(0.11400), _HALF)
BLUE_CHROMA = (-_fixed(0.16874), -_fixed(0.33126), _fixed(0.50000), _CENTRE)
RED_CHROMA = (_fixed(0.50000), -_fixed(0.41869), -_fixed(0.08131), _CENTRE)


def _moved(builder, address, step, index):  # type: ignore[no-untyped-def]
    return builder.add(address, builder.mul(index, ir.Constant(index.type, step)))


@intrinsic
def convert_row(typing_context, source, luma, blue_chroma, red_chroma, num_chunks):  # type: ignore[no-untyped-def]
    """Converts num_chunks * CHUNK pixels; all are addresses: of RGB, and of where each component's bytes go."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        source, *targets, num_chunks = arguments
        with cgutils.for_range(builder, num_chunks) as loop:
            place = _moved(builder, source, 3 * CHUNK, loop.index)
            first, second, third = (load_vector(builder, place, CHUNK * part, 8, CHUNK) for part in range(3))
            low, high = first.joined(second), third.joined(third)
            colours = [low.shuffled(high, range(colour, 3 * CHUNK, 3)).unsigned(32) for colour in range(3)]
            for target, weights in zip(targets, (LUMA, BLUE_CHROMA, RED_CHROMA), strict=True):
                total = colours[0] * weights[0] + colours[1] * weights[1] + colours[2] * weights[2] + weights[3]
                level = builder.trunc((total >> _BITS).value, ir.VectorType(ir.IntType(8), CHUNK))
                Vector(builder, level).store(_moved(builder, target, CHUNK, loop.index))
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5), codegen


def _halves(builder: ir.IRBuilder, address: ir.Value) -> tuple[Vector, Vector]:
    """The even and the odd of CHUNK levels, in 16 bits."""
    levels = load_vector(builder, address, 0, 8, CHUNK)
    even, odd = (levels.shuffled(levels, range(start, CHUNK, 2)).unsigned(16) for start in (0, 1))
    return even, odd


def _alternating(like: Vector, even: int, odd: int) -> Vector:
    numbers = [even if lane % 2 == 0 else odd for lane in range(like.lanes)]
    return Vector(like.builder, ir.Constant(like.value.type, numbers))


@intrinsic
def halve_width(typing_context, source, target, num_chunks):  # type: ignore[no-untyped-def]
    """Means of pairs of num_chunks * CHUNK levels, rounded down and up in turn; addresses."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        source, target, num_chunks = arguments
        with cgutils.for_range(builder, num_chunks) as loop:
            even, odd = _halves(builder, _moved(builder, source, CHUNK, loop.index))
            mean = (even + odd + _alternating(even, 0, 1)) >> 1
            mean.bounded(0, 255, 8).store(_moved(builder, target, CHUNK // 2, loop.index))
        return context.get_dummy_value()

    return types.void(*[types.intp] * 3), codegen


@intrinsic
def halve_sides(typing_context, source, stride, target, num_chunks):  # type: ignore[no-untyped-def]
    """Means of squares of 2 x 2 levels, from num_chunks * CHUNK of a row and of that a stride behind it; addresses."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        source, stride, target, num_chunks = arguments
        with cgutils.for_range(builder, num_chunks) as loop:
            place = _moved(builder, source, CHUNK, loop.index)
            even, odd = _halves(builder, place)
            even_below, odd_below = _halves(builder, builder.add(place, stride))
            mean = (even + odd + even_below + odd_below + _alternating(even, 1, 2)) >> 2
            mean.bounded(0, 255, 8).store(_moved(builder, target, CHUNK // 2, loop.index))
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4), codegen
