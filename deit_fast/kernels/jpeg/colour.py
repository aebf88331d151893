"""Takes rows of luma and of chroma as a JPEG has them, gives rows of RGB pixels, bit for bit as libjpeg-turbo.

Chroma of half the width, or of half of both sides, is interpolated (jdsample.c, fancy upsampling): a sample counts three
times, its neighbour on the side of the pixel once. That needs copies of a row's first sample before it and of its last behind
it; the special cases of the edges come out of that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from deit_fast.kernels.jpeg.vectors import Vector, load_vector, products

CHUNK = 32  # pixels converted at a time

GREY, FULL, HALF_WIDTH, HALF_SIDES = range(4)  # how many samples of chroma there are


def _fixed(number: float) -> int:
    return round(number * (1 << 16))


# with 16 bits behind the point; red and green get one more cr, and blue two cb
RED_OF_CR, BLUE_OF_CB = _fixed(0.402), -_fixed(0.228)
GREEN_OF_CB, GREEN_OF_CR = -_fixed(0.34414), 65536 - _fixed(0.71414)


def _interpolated(sums: Callable[[int], Vector], bits: int, to_even: int, to_odd: int) -> Vector:
    near = sums(0) * 3
    even, odd = (near + sums(-1) + to_even) >> bits, (near + sums(1) + to_odd) >> bits
    return even.interleaved(odd)


def _chroma(builder: ir.IRBuilder, kind: int, near: ir.Value, far: ir.Value) -> Vector:
    """CHUNK samples of a chroma component, less 128, in 16 bits, from where the samples beside them lie."""
    half = CHUNK // 2
    if kind == FULL:
        levels = load_vector(builder, near, 0, 8, CHUNK).unsigned(16)
    elif kind == HALF_WIDTH:
        levels = _interpolated(lambda at: load_vector(builder, near, at, 8, half).unsigned(16), 2, 1, 2)
    else:

        def sums(at: int) -> Vector:
            below = load_vector(builder, far, at, 8, half).unsigned(16)
            return load_vector(builder, near, at, 8, half).unsigned(16) * 3 + below

        levels = _interpolated(sums, 4, 8, 7)
    return levels - 128


def _rgb(y: Vector, cb: Vector, cr: Vector) -> tuple[Vector, Vector, Vector]:
    """jdcolor.c's sums of products with 16 bits behind the point, in 16 bits as far as that goes."""
    red = y + cr + (((cr + cr).high_half_of_product(RED_OF_CR) + 1) >> 1)
    blue = y + cb + cb + (((cb + cb).high_half_of_product(BLUE_OF_CB) + 1) >> 1)
    differences = []
    for half in (range(16), range(16, 32)):
        of_cb_and_cr = products(cb.shuffled(cb, half), cr.shuffled(cr, half), (GREEN_OF_CB, GREEN_OF_CR))
        differences.append(of_cb_and_cr.rounded(16).saturated())
    green = y - cr + differences[0].joined(differences[1])
    return red.bounded(0, 255, 8), green.bounded(0, 255, 8), blue.bounded(0, 255, 8)


def _store_interleaved(channels: tuple[Vector, Vector, Vector], target: ir.Value) -> None:
    red, green, blue = channels
    last = blue.joined(blue)
    order = [channel * CHUNK + pixel for pixel in range(CHUNK) for channel in range(3)]
    red.joined(green).shuffled(last, order).store(target)


def _make_convert(kind: int) -> Callable[..., Any]:
    """An intrinsic that writes num_chunks * CHUNK RGB pixels from target on; all are addresses.

    luma: of the first pixel's; cb, cr: of the sample of chroma beside it, in the nearest row and in the other beside the row of
    pixels, which is not read unless chroma has half the height. The first pixel's column is even.
    """

    @intrinsic
    def convert(typing_context, luma, cb, other_cb, cr, other_cr, target, num_chunks):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
            luma, cb, other_cb, cr, other_cr, target, num_chunks = arguments

            def moved(address, step, index):  # type: ignore[no-untyped-def]
                return builder.add(address, builder.mul(index, ir.Constant(index.type, step)))

            with cgutils.for_range(builder, num_chunks) as loop:
                y = load_vector(builder, moved(luma, CHUNK, loop.index), 0, 8, CHUNK)
                place = moved(target, 3 * CHUNK, loop.index)
                if kind == GREY:
                    _store_interleaved((y, y, y), place)
                else:
                    step = CHUNK if kind == FULL else CHUNK // 2
                    pairs = [
                        [moved(address, step, loop.index) for address in pair] for pair in ((cb, other_cb), (cr, other_cr))
                    ]
                    blue_chroma, red_chroma = (_chroma(builder, kind, *pair) for pair in pairs)
                    _store_interleaved(_rgb(y.unsigned(16), blue_chroma, red_chroma), place)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 7), codegen

    intrinsic_function: Callable[..., Any] = convert
    return intrinsic_function


convert_grey, convert_full = _make_convert(GREY), _make_convert(FULL)
convert_half_width, convert_half_sides = _make_convert(HALF_WIDTH), _make_convert(HALF_SIDES)
