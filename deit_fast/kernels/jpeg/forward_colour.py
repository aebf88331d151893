"""Takes rows of RGB pixels, gives rows of luma and chroma, bit for bit as libjpeg-turbo (jccolor.c, jcsample.c)."""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from deit_fast.kernels.jpeg.vectors import Vector, Wide, load_vector, products

CHUNK = 32  # pixels converted at a time

_BITS = 16  # behind the point of the weights
_HALF = 1 << (_BITS - 1)
_CENTRE = (128 << _BITS) + _HALF - 1


def _fixed(number: float) -> int:
    return int(number * (1 << _BITS) + 0.5)


# Weights of red and green, of blue and another colour (green, or blue again), since they must fit 16 bits; added to the sums
LUMA = (_fixed(0.29900), _fixed(0.33700)), (_fixed(0.11400), _fixed(0.25000)), _HALF
BLUE_CHROMA = (-_fixed(0.16874), -_fixed(0.33126)), (_fixed(0.25000), _fixed(0.25000)), _CENTRE
RED_CHROMA = (-_fixed(0.08131), -_fixed(0.41869)), (_fixed(0.25000), _fixed(0.25000)), _CENTRE


def _moved(builder, address, step, index):  # type: ignore[no-untyped-def]
    return builder.add(address, builder.mul(index, ir.Constant(index.type, step)))


def _weighted(colours: tuple[Vector, Vector, Vector, Vector], weights: tuple[tuple[int, int], tuple[int, int], int]) -> Vector:
    """16 levels, 8 bits, of 16-bit colours."""
    first, second, added = weights
    total = products(colours[0], colours[1], first) + products(colours[2], colours[3], second)
    low, high = ((half + added) >> _BITS for half in total.halves)
    return Wide(low, high).saturated().bounded(0, 255, 8)


@intrinsic
def convert_row(typing_context, source, luma, blue_chroma, red_chroma, num_chunks):  # type: ignore[no-untyped-def]
    """Converts num_chunks * CHUNK pixels; all are addresses: of RGB, and of where each component's bytes go."""

    def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        source, *targets, num_chunks = arguments
        with cgutils.for_range(builder, num_chunks) as loop:
            place = _moved(builder, source, 3 * CHUNK, loop.index)
            first, second, third = (load_vector(builder, place, CHUNK * part, 8, CHUNK) for part in range(3))
            low, high = first.joined(second), third.joined(third)
            for part in range(0, CHUNK, 16):
                red, green, blue = (
                    low.shuffled(high, range(3 * part + colour, 3 * (part + 16), 3)).unsigned(16) for colour in range(3)
                )
                ways = (
                    ((red, green, blue, green), LUMA),
                    ((red, green, blue, blue), BLUE_CHROMA),
                    ((blue, green, red, red), RED_CHROMA),
                )
                for target, (colours, weights) in zip(targets, ways, strict=True):
                    level = _weighted(colours, weights)
                    level.store(_moved(builder, target, CHUNK, loop.index), part)
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
