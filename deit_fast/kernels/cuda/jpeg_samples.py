"""Coefficients of JPEGs to samples, by libjpeg's slow transform: several blocks of threads a JPEG, eight threads an 8x8 one."""

from __future__ import annotations

from typing import Any

import numpy as np

from deit_fast.kernels.cuda.driver import cuda, device_function, kernel, launch
from deit_fast.kernels.jpeg import scalar
from deit_fast.kernels.jpeg.decode_blocks import NATURAL_ORDER
from deit_fast.kernels.jpeg.device_tables import (
    FACTORS,
    FIRST_BLOCK,
    FIRST_SAMPLE,
    HORIZONTAL,
    INTERVAL,
    NUM_COMPONENTS,
    TILE_COLUMNS,
    TILE_ROWS,
    UNSUPPORTED,
    VERTICAL,
    WANTED,
)

THREADS = 256  # of a block: eight for each 8x8 block of coefficients
PARTS = 32  # blocks of threads that share a JPEG: a photograph has some 4,000 8x8 blocks under its crops

_AT_ONCE = THREADS // 8
_ROW = 9  # int32 of shared memory for a row of an 8x8 block: one more than it has, so that columns lie in other banks
_BLOCK = 8 * _ROW
_NUM_BETWEEN = _AT_ONCE * _BLOCK
_NUM_FACTORS = 3 * 64
_NUMBERS = np.argsort(NATURAL_ORDER // 2).astype(np.uint8)  # in zigzag order, of coefficients row by row
_U64 = np.uint64
_1 = np.uint64(1)
_8, _16 = np.uint32(8), np.uint32(16)


@device_function
def plane_of(jpegs, jpeg, component):  # type: ignore[no-untyped-def]
    """(first sample, samples in a row) of a component's plane."""
    start, stride = jpegs[jpeg, FIRST_SAMPLE], 8 * jpegs[jpeg, TILE_COLUMNS] * jpegs[jpeg, INTERVAL]
    if component == 0:
        return start, stride * jpegs[jpeg, HORIZONTAL]
    num_luma = jpegs[jpeg, HORIZONTAL] * jpegs[jpeg, VERTICAL]
    return start + 8 * stride * jpegs[jpeg, TILE_ROWS] * (num_luma + component - 1), stride


@device_function
def _factor(encoded, at, place):  # type: ignore[no-untyped-def]
    """The factor of a coefficient, as int16, from a quantisation table in a DQT segment."""
    number = np.int64(_NUMBERS[_U64(place)])
    if encoded[_U64(at)] >> 4 > 0:
        high, low = encoded[_U64(at + 1 + 2 * number)], encoded[_U64(at + 2 + 2 * number)]
        return np.int32(np.int16(np.int32(high) << np.int32(8) | np.int32(low)))
    return np.int32(encoded[_U64(at + 1 + number)])


@device_function
def _divided(value, divisor):  # type: ignore[no-untyped-def]
    """(quotient, remainder) of two numbers from 0 up to 2**32, as int64; a device divides such faster than longer ones."""
    quotient = np.uint32(np.uint32(value) // np.uint32(divisor))
    return np.int64(quotient), np.int64(np.uint32(np.uint32(value) - np.uint32(quotient * np.uint32(divisor))))


@device_function
def _place_of(jpegs, jpeg, number):  # type: ignore[no-untyped-def]
    """(component, row, column) of a JPEG's 8x8 block in its plane, by its number; component: -1 where none of it is wanted."""
    horizontal, vertical = jpegs[jpeg, HORIZONTAL], jpegs[jpeg, VERTICAL]
    num_luma = horizontal * vertical
    in_mcu = num_luma + jpegs[jpeg, NUM_COMPONENTS] - 1
    mcu, block = _divided(number, in_mcu)
    tile, mcu = _divided(mcu, jpegs[jpeg, INTERVAL])
    row, column = _divided(tile, jpegs[jpeg, TILE_COLUMNS])
    column = column * jpegs[jpeg, INTERVAL] + mcu
    component = max(np.int64(0), block - num_luma + 1)
    if component == 0:  # factors are 1 or 2
        row = row * vertical + (block >> (horizontal - 1))
        column = column * horizontal + (block & (horizontal - 1))
    wanted = WANTED if component == 0 else WANTED + 4
    if not (
        jpegs[jpeg, wanted] <= row < jpegs[jpeg, wanted + 1] and jpegs[jpeg, wanted + 2] <= column < jpegs[jpeg, wanted + 3]
    ):
        component = np.int64(-1)
    return component, row, column


@device_function
def _four_levels(a, b, c, d):  # type: ignore[no-untyped-def]
    """The levels of four results in the bytes of an int32, the first lowest."""
    low = np.uint32(np.uint32(scalar.level_of(a)) | np.uint32(np.uint32(scalar.level_of(b)) << _8))
    high = np.uint32(np.uint32(scalar.level_of(c)) | np.uint32(np.uint32(scalar.level_of(d)) << _8))
    return np.int32(np.uint32(low | np.uint32(high << _16)))


@device_function
def _make_column(coefficients, at, factors, of, between, to):  # type: ignore[no-untyped-def]
    """The first transform of a column; gives whether its highest coefficient is one of no sound JPEG."""
    x0 = scalar.dequantised(coefficients[at], factors[of])
    x1 = scalar.dequantised(coefficients[at + _U64(8)], factors[of + _U64(8)])
    x2 = scalar.dequantised(coefficients[at + _U64(16)], factors[of + _U64(16)])
    x3 = scalar.dequantised(coefficients[at + _U64(24)], factors[of + _U64(24)])
    x4 = scalar.dequantised(coefficients[at + _U64(32)], factors[of + _U64(32)])
    x5 = scalar.dequantised(coefficients[at + _U64(40)], factors[of + _U64(40)])
    x6 = scalar.dequantised(coefficients[at + _U64(48)], factors[of + _U64(48)])
    x7 = scalar.dequantised(coefficients[at + _U64(56)], factors[of + _U64(56)])
    y = scalar.transformed(x0, x1, x2, x3, x4, x5, x6, x7, scalar.COLUMN_SHIFT)
    between[to], between[to + _U64(_ROW)] = scalar.saturated(y[0]), scalar.saturated(y[1])
    between[to + _U64(2 * _ROW)], between[to + _U64(3 * _ROW)] = scalar.saturated(y[2]), scalar.saturated(y[3])
    between[to + _U64(4 * _ROW)], between[to + _U64(5 * _ROW)] = scalar.saturated(y[4]), scalar.saturated(y[5])
    between[to + _U64(6 * _ROW)], between[to + _U64(7 * _ROW)] = scalar.saturated(y[6]), scalar.saturated(y[7])
    return scalar.is_too_large(x0)


@device_function
def _make_row(between, at, samples, to):  # type: ignore[no-untyped-def]
    """The second transform of a row, to two words of samples."""
    y = scalar.transformed(
        between[at], between[at + _U64(1)], between[at + _U64(2)], between[at + _U64(3)],
        between[at + _U64(4)], between[at + _U64(5)], between[at + _U64(6)], between[at + _U64(7)], scalar.ROW_SHIFT,
    )  # fmt: skip
    samples[to] = _four_levels(y[0], y[1], y[2], y[3])
    samples[to + _1] = _four_levels(y[4], y[5], y[6], y[7])


@kernel(threads=THREADS, blocks=4)
def _transform(encoded, jpegs, parts, coefficients, samples, statuses):  # type: ignore[no-untyped-def]
    """samples: int32, four to a word."""
    factors = cuda.shared.array(_NUM_FACTORS, np.int32)
    between = cuda.shared.array(_NUM_BETWEEN, np.int32)
    # of each 8x8 block at hand: its component, -1 where none of it is wanted, its first sample, and samples in a row
    components = cuda.shared.array(_AT_ONCE, np.int32)
    firsts = cuda.shared.array(_AT_ONCE, np.int64)
    strides = cuda.shared.array(_AT_ONCE, np.int32)

    jpeg = np.int64(cuda.blockIdx.x) // parts
    thread, num_threads = cuda.threadIdx.x, cuda.blockDim.x
    num_components = jpegs[jpeg, NUM_COMPONENTS]
    in_mcu = jpegs[jpeg, HORIZONTAL] * jpegs[jpeg, VERTICAL] + num_components - 1
    num_blocks = jpegs[jpeg, TILE_ROWS] * jpegs[jpeg, TILE_COLUMNS] * jpegs[jpeg, INTERVAL] * in_mcu
    for i in range(thread, 64 * num_components, num_threads):
        factors[i] = _factor(encoded, jpegs[jpeg, FACTORS + (i >> 6)], i & 63)
    for first in range((np.int64(cuda.blockIdx.x) - jpeg * parts) * _AT_ONCE, num_blocks, parts * _AT_ONCE):
        for i in range(thread, _AT_ONCE, num_threads):
            component, row, column = np.int64(-1), np.int64(0), np.int64(0)
            if first + i < num_blocks:
                component, row, column = _place_of(jpegs, jpeg, first + i)
            start, stride = plane_of(jpegs, jpeg, max(component, np.int64(0)))
            components[i], firsts[i], strides[i] = component, start + 8 * row * stride + 8 * column, stride
        cuda.syncthreads()
        for i in range(thread, 8 * _AT_ONCE, num_threads):
            block, line = _U64(i >> 3), _U64(i & 7)
            component = components[block]
            if component >= 0:
                at = _U64(jpegs[jpeg, FIRST_BLOCK] + first + np.int64(block)) * _U64(64) + line
                of, to = _U64(64 * component) + line, block * _U64(_BLOCK) + line
                if _make_column(coefficients, at, factors, of, between, to):
                    cuda.atomic.max(statuses, jpeg, np.int32(UNSUPPORTED))
        cuda.syncthreads()
        for i in range(thread, 8 * _AT_ONCE, num_threads):
            block, line = _U64(i >> 3), _U64(i & 7)
            if components[block] >= 0:
                to = _U64((firsts[block] + np.int64(line) * strides[block]) >> 2)
                _make_row(between, block * _U64(_BLOCK) + line * _U64(_ROW), samples, to)
        cuda.syncthreads()


def transform(encoded: Any, jpegs: Any, num_jpegs: int, coefficients: Any, samples: Any, statuses: Any) -> None:
    """Queues the transforms of a batch. Arguments as for `jpeg.decode`, samples as int32."""
    launch(_transform, num_jpegs * PARTS, THREADS, encoded, jpegs, np.int64(PARTS), coefficients, samples, statuses)
