"""Samples of JPEGs to RGB, with libjpeg's fancy upsampling of chroma: several blocks of threads a JPEG, eight pixels each."""

from __future__ import annotations

from typing import Any

import numpy as np

from deit_fast.kernels.cuda.driver import cuda, device_function, kernel, launch
from deit_fast.kernels.cuda.jpeg_samples import plane_of
from deit_fast.kernels.jpeg import scalar
from deit_fast.kernels.jpeg.device_tables import COLUMNS, FIRST_PIXEL, HORIZONTAL, NUM_COMPONENTS, ROWS, VERTICAL

THREADS = 256
PARTS = 32  # blocks of threads that share a JPEG

_U64 = np.uint64
_1, _2 = np.uint64(1), np.uint64(2)
_128 = np.int32(128)


@device_function
def _store(colour, pixels, at):  # type: ignore[no-untyped-def]
    to = _U64(np.uint32(at))
    pixels[to], pixels[to + _1], pixels[to + _2] = np.uint8(colour[0]), np.uint8(colour[1]), np.uint8(colour[2])


@device_function
def _level(samples, at):  # type: ignore[no-untyped-def]
    return np.int32(samples[_U64(np.uint32(at))])


@device_function
def _with_whole_chroma(samples, at, of_cb, of_cr, is_grey, count, pixels, to):  # type: ignore[no-untyped-def]
    """of_cb, of_cr: the first sample of each, if not grey."""
    for _ in range(count):
        level = _level(samples, at)
        if is_grey:
            _store((level, level, level), pixels, to)
        else:
            cb, cr = np.int32(_level(samples, of_cb) - _128), np.int32(_level(samples, of_cr) - _128)
            _store(scalar.rgb_of(level, cb, cr), pixels, to)
            of_cb, of_cr = np.int32(of_cb + 1), np.int32(of_cr + 1)
        at, to = np.int32(at + 1), np.int32(to + 3)


@device_function
def _column(samples, at, to_far, of_near, of_far):  # type: ignore[no-untyped-def]
    """Chroma of a column between two rows, in shares of each."""
    return np.int32(np.int32(of_near * _level(samples, at)) + np.int32(of_far * _level(samples, np.int32(at + to_far))))


@device_function
def _between(here, other, rounding, shift):  # type: ignore[no-untyped-def]
    """Chroma less 128, a quarter of the way to the column beside."""
    return np.int32((np.int32(np.int32(np.int32(3) * here) + np.int32(other + rounding)) >> shift) - _128)


@device_function
def _with_halved_chroma(samples, at, of_cb, to_cr, to_far, column, last, is_halved, count, pixels, to):  # type: ignore[no-untyped-def]
    """of_cb: first sample of the row; to_cr, to_far: from there to the other component, and to the row beside, if rows are
    halved; column: of chroma, the last of which is `last`."""
    of_near, of_far, shift, for_even, for_odd = np.int32(1), np.int32(0), np.int32(2), np.int32(1), np.int32(2)
    if is_halved:
        of_near, of_far, shift, for_even, for_odd = np.int32(3), np.int32(1), np.int32(4), np.int32(8), np.int32(7)
    here = np.int32(of_cb + column)
    beside = np.int32(here - (np.int32(1) if column > 0 else np.int32(0)))
    cb_before = _column(samples, beside, to_far, of_near, of_far)
    cr_before = _column(samples, np.int32(beside + to_cr), to_far, of_near, of_far)
    cb = _column(samples, here, to_far, of_near, of_far)
    cr = _column(samples, np.int32(here + to_cr), to_far, of_near, of_far)
    while count > 0:
        here = np.int32(here + (np.int32(1) if column < last else np.int32(0)))
        column = np.int32(column + 1)
        cb_behind = _column(samples, here, to_far, of_near, of_far)
        cr_behind = _column(samples, np.int32(here + to_cr), to_far, of_near, of_far)
        chroma = _between(cb, cb_before, for_even, shift), _between(cr, cr_before, for_even, shift)
        _store(scalar.rgb_of(_level(samples, at), chroma[0], chroma[1]), pixels, to)
        if count > 1:
            chroma = _between(cb, cb_behind, for_odd, shift), _between(cr, cr_behind, for_odd, shift)
            _store(scalar.rgb_of(_level(samples, np.int32(at + 1)), chroma[0], chroma[1]), pixels, np.int32(to + 3))
        at, to, count = np.int32(at + 2), np.int32(to + 6), np.int32(count - 2)
        cb_before, cr_before, cb, cr = cb, cr, cb_behind, cr_behind


@kernel(threads=THREADS, blocks=4)
def _show(jpegs, parts, samples, pixels):  # type: ignore[no-untyped-def]
    """Numbers of samples and bytes are int32: a batch has at most 2**30 bytes of pixels."""
    jpeg = np.int64(cuda.blockIdx.x) // parts
    part = np.int64(cuda.blockIdx.x) - jpeg * parts
    rows, columns = np.int32(jpegs[jpeg, ROWS]), np.int32(jpegs[jpeg, COLUMNS])
    is_grey, is_whole = jpegs[jpeg, NUM_COMPONENTS] == 1, jpegs[jpeg, HORIZONTAL] == 1
    is_halved = jpegs[jpeg, VERTICAL] == 2
    first_pixel = np.int32(jpegs[jpeg, FIRST_PIXEL])
    start, in_a_row = plane_of(jpegs, jpeg, 0)
    luma, luma_stride = np.int32(start), np.int32(in_a_row)
    start, in_a_row = plane_of(jpegs, jpeg, 1)
    cb, stride = np.int32(start), np.int32(in_a_row)
    start, in_a_row = plane_of(jpegs, jpeg, 2)
    to_cr = np.int32(start - cb)
    last_row, last_column = np.int32(((rows + 1) >> 1) - 1), np.int32(((columns + 1) >> 1) - 1)
    groups = np.int32((columns + 7) >> 3)
    unit = np.int32(part * cuda.blockDim.x + cuda.threadIdx.x)
    while unit < np.int32(rows * groups):
        y = np.int32(np.uint32(np.uint32(unit) // np.uint32(groups)))
        x = np.int32(np.int32(8) * np.int32(unit - np.int32(y * groups)))
        count = min(np.int32(columns - x), np.int32(8))
        at = np.int32(luma + np.int32(np.int32(y * luma_stride) + x))
        to = np.int32(first_pixel + np.int32(np.int32(3) * np.int32(np.int32(y * columns) + x)))
        if is_grey or is_whole:
            of_cb = np.int32(cb + np.int32(np.int32(y * stride) + x))
            _with_whole_chroma(samples, at, of_cb, np.int32(of_cb + to_cr), is_grey, count, pixels, to)
        else:
            row, to_far = y, np.int32(0)
            if is_halved:
                row = np.int32(y >> 1)
                to_far = stride if y & 1 else np.int32(-stride)
                if (y & 1 == 0 and row == 0) or (y & 1 == 1 and row >= last_row):
                    to_far = np.int32(0)
            of_cb, column = np.int32(cb + np.int32(row * stride)), np.int32(x >> 1)
            _with_halved_chroma(samples, at, of_cb, to_cr, to_far, column, last_column, is_halved, count, pixels, to)
        unit = np.int32(unit + np.int32(parts * cuda.blockDim.x))


def show(jpegs: Any, num_jpegs: int, samples: Any, pixels: Any) -> None:
    """Queues the showing of a batch. Arguments as for `jpeg.decode`, samples as uint8."""
    launch(_show, num_jpegs * PARTS, THREADS, jpegs, np.int64(PARTS), samples, pixels)
