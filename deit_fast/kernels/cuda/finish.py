"""Takes a batch of uint8 views on the device, gives normalised, erased and mixed images in float32, float16 or bfloat16.

`kernels.finish` on the GPU, in one pass: each byte of a view is read once for itself and once as a partner's, each image
written once. A thread makes four values that lie side by side, for which one block of the generator gives the noise, in each
of a few rows: what depends on the column alone is worked out once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from deit_fast.kernels import erase
from deit_fast.kernels.cuda.driver import array, cuda, device_function, kernel, launch
from deit_fast.kernels.cuda.tables import CUT, ERASED, KIND, LAM, PARTNER, SEED, VIEW_ID
from deit_fast.kernels.finish import blend, factor_and_offset, normalise
from deit_fast.kernels.mix import CUTMIX, MIXUP
from deit_fast.kernels.round import BFLOAT16, FLOAT16, FLOAT32, bfloat16_bits, half_bits_by_integers

THREADS = 256
STRIP = 8  # rows of a view that a block makes
_WARP = 32

_LANES = np.uint32(4)  # values that a thread makes of a row
_FIRST_BIT = np.uint32(1)
_BYTE = np.uint32(0xFF)
_EVERYTHING = (16 << STRIP) - 1  # as `_marks` gives it for all of a thread's values


def levels_of(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """(6,) float32 for `finish`: factors, then offsets. mean, std (3,) float64 in units of 255 grey levels."""
    pairs = [factor_and_offset(*channel) for channel in zip(mean, std, strict=True)]
    return np.array([pair[part] for part in (0, 1) for pair in pairs], np.float32)


@device_function
def _marks(table, row, column, place, first_row):  # type: ignore[no-untyped-def]
    """Which values of a thread lie in a box: bits 0 to 3 for its columns, from `place` on, and bits 4 and up for the rows of
    its strip. All zeros where none do."""
    first, last = 3 * table[row, column + 2], 3 * table[row, column + 3]
    lanes = 0
    for lane in range(4):
        if first <= place + lane < last:
            lanes |= 1 << lane
    begin, end = max(table[row, column] - first_row, 0), min(table[row, column + 1] - first_row, STRIP)
    if lanes == 0 or begin >= end:
        return np.uint32(0)
    return np.uint32(lanes | ((1 << end) - (1 << begin)) << 4)


@device_function
def _normalised(word, factors, offsets):  # type: ignore[no-untyped-def]
    """The four grey levels in a uint32, the first in its lowest bits."""
    return (
        normalise(np.uint32(word & _BYTE), factors[0], offsets[0]),
        normalise(np.uint32((word >> np.uint32(8)) & _BYTE), factors[1], offsets[1]),
        normalise(np.uint32((word >> np.uint32(16)) & _BYTE), factors[2], offsets[2]),
        normalise(np.uint32((word >> np.uint32(24)) & _BYTE), factors[0], offsets[0]),
    )


@device_function
def _chosen(marks, within, without):  # type: ignore[no-untyped-def]
    """Of four values, those whose column is marked from one tuple, and the others from another."""
    return (
        within[0] if marks & np.uint32(1) else without[0],
        within[1] if marks & np.uint32(2) else without[1],
        within[2] if marks & np.uint32(4) else without[2],
        within[3] if marks & np.uint32(8) else without[3],
    )


@device_function
def _noise(table, row, mode, y, quad):  # type: ignore[no-untyped-def]
    """Seed and view id are read anew for each quad: else the generator's ten round keys would fill registers all along."""
    return erase.noise_quad(np.uint64(table[row, SEED]), np.uint64(table[row, VIEW_ID]), mode, y, quad)


@device_function
def _blended(own, other, share, rest):  # type: ignore[no-untyped-def]
    # said to be float32, which the simulator would make float64 on their way through Python
    return (
        blend(np.float32(own[0]), np.float32(other[0]), share, rest),
        blend(np.float32(own[1]), np.float32(other[1]), share, rest),
        blend(np.float32(own[2]), np.float32(other[2]), share, rest),
        blend(np.float32(own[3]), np.float32(other[3]), share, rest),
    )


@device_function
def _bits(value, precision):  # type: ignore[no-untyped-def]
    if precision == FLOAT16:
        return np.uint32(half_bits_by_integers(value))
    if precision == BFLOAT16:
        return np.uint32(bfloat16_bits(value))
    return np.float32(value).view(np.uint32)


@device_function
def _loaded(views, in_words, at, count):  # type: ignore[no-untyped-def]
    """Four grey levels in a uint32, from number `at` of all on; only `count` of them where the views are bytes."""
    if in_words:
        return np.uint32(views[at >> np.uint64(2)])
    word = np.uint32(0)
    for i in range(count):
        word = np.uint32(word | np.uint32(np.uint32(views[at + np.uint64(i)]) << np.uint32(8 * i)))
    return word


@device_function
def _stored(values, precision, images, in_words, at, count):  # type: ignore[no-untyped-def]
    """Writes four values as number `at` of all and those behind it, or `count` of them where images are not in words."""
    a, b = _bits(values[0], precision), _bits(values[1], precision)
    c, d = _bits(values[2], precision), _bits(values[3], precision)
    if not in_words:
        images[at] = a
        if count > 1:
            images[at + np.uint64(1)] = b
        if count > 2:
            images[at + np.uint64(2)] = c
        if count > 3:
            images[at + np.uint64(3)] = d
    elif precision == FLOAT32:
        images[at >> np.uint64(1)] = np.uint64(a) | np.uint64(b) << np.uint64(32)
        images[(at >> np.uint64(1)) + np.uint64(1)] = np.uint64(c) | np.uint64(d) << np.uint64(32)
    else:
        low, high = np.uint64(a | b << np.uint32(16)), np.uint64(c | d << np.uint32(16))
        images[at >> np.uint64(2)] = low | high << np.uint64(32)


def _make(in_words: bool) -> Any:
    """The kernel for views in uint32 and images in uint64, or for views in bytes and images value by value."""

    @kernel(threads=THREADS, blocks=3)
    def finish_strips(views, table, levels, mode, precision, height, width, images):  # type: ignore[no-untyped-def]
        # where a thread keeps words of its own that it will need
        own_words = cuda.shared.array((STRIP, THREADS), np.uint32)
        other_words = cuda.shared.array((STRIP, THREADS), np.uint32)
        strips = (height + STRIP - 1) // STRIP
        b = np.int64(cuda.blockIdx.x // strips)
        first_row = (cuda.blockIdx.x - b * strips) * STRIP
        num_rows = min(height - first_row, STRIP)
        length = np.int32(3 * width)
        partner, kind = table[b, PARTNER], np.int32(table[b, KIND])
        lam = np.int64(table[b, LAM]).view(np.float64)
        share, rest = np.float32(lam), np.float32(1.0 - lam)

        thread = np.uint64(cuda.threadIdx.x)
        for place in range(np.int32(4 * cuda.threadIdx.x), length, np.int32(4 * cuda.blockDim.x)):
            count, quad = min(np.int32(length - place), np.int32(4)), np.int32(np.uint32(place) >> np.uint32(2))
            first = np.int32(np.uint32(place) % np.uint32(3))
            second, third = np.int32(first + 1 if first < 2 else 0), np.int32(first - 1 if first > 0 else 2)
            factors = levels[first], levels[second], levels[third]
            offsets = levels[3 + first], levels[3 + second], levels[3 + third]
            own_erased = _marks(table, b, ERASED, place, first_row)
            other_erased = _marks(table, partner, ERASED, place, first_row)
            mixed = np.uint32(_EVERYTHING if kind == MIXUP else 0)
            if kind == CUTMIX:
                mixed = _marks(table, b, CUT, place, first_row)
            own_at = np.uint64((b * height + first_row) * np.int64(length) + place)
            # all are asked for before the first is used: memory is slow to answer
            at = own_at
            for step in range(STRIP):
                own_words[np.uint64(step), thread] = _loaded(views, in_words, at, count)
                at += np.uint64(length if step + 1 < num_rows else 0)
            if mixed != 0:
                at = np.uint64((partner * height + first_row) * np.int64(length) + place)
                for step in range(STRIP):
                    other_words[np.uint64(step), thread] = _loaded(views, in_words, at, count)
                    at += np.uint64(length if step + 1 < num_rows else 0)
            at = own_at
            # of the row that is being made, bit 0 says whether it has values in a box
            own_rows, other_rows = np.uint32(own_erased >> _LANES), np.uint32(other_erased >> _LANES)
            mixed_rows = np.uint32(mixed >> _LANES)
            for step in range(num_rows):
                own = own_words[np.uint64(step), thread]
                values = _normalised(own, factors, offsets)
                if own_rows & _FIRST_BIT:
                    values = _chosen(own_erased, _noise(table, b, mode, first_row + step, quad), values)
                if mixed_rows & _FIRST_BIT:
                    others = _normalised(other_words[np.uint64(step), thread], factors, offsets)
                    if other_rows & _FIRST_BIT:
                        others = _chosen(other_erased, _noise(table, partner, mode, first_row + step, quad), others)
                    values = _blended(values, others, share, rest) if kind == MIXUP else _chosen(mixed, others, values)
                _stored(values, precision, images, in_words, at, count)
                at += np.uint64(length)
                own_rows, other_rows = np.uint32(own_rows >> _FIRST_BIT), np.uint32(other_rows >> _FIRST_BIT)
                mixed_rows = np.uint32(mixed_rows >> _FIRST_BIT)

    return finish_strips


finish_words = _make(True)
finish_bytes = _make(False)


def is_in_words(width: int) -> bool:
    """Whether rows of views of this width begin at whole words, so that four values are read and written at a time."""
    return width % 4 == 0


def views_array(views: torch.Tensor) -> Any:
    """Views (B, H, W, 3) uint8, contiguous, as `finish` takes them."""
    return array(views.view(-1).view(torch.uint32 if is_in_words(views.shape[2]) else torch.uint8))


def images_array(images: torch.Tensor) -> Any:
    """Images (B, H, W, 3) float32, float16 or bfloat16, contiguous, as `finish` takes them."""
    of_value = torch.uint32 if images.dtype == torch.float32 else torch.uint16
    return array(images.view(-1).view(torch.uint64 if is_in_words(images.shape[2]) else of_value))


def threads_for(width: int) -> int:
    """Threads of a block: whole warps, and no more than have work in the last of their turns along a row."""
    quads = (3 * width + 3) // 4
    turns = -(-quads // THREADS)
    return -(-quads // (turns * _WARP)) * _WARP


def finish(
    views: Any, table: Any, levels: Any, erase_mode: int, precision: int, shape: tuple[int, int, int], images: Any
) -> None:
    """Queues the filling of images with the views, normalised, erased and mixed.

    views from `views_array`, images, which are written, from `images_array`; shape: their (B, H, W). table (B or more,
    FINISH_LENGTH) int64, of `tables`, and levels (6,) float32, of `levels_of`: from `cuda.array`. erase_mode from
    `erase.MODES`; precision from `round.PRECISIONS`, that of images.
    """
    count, height, width = shape
    function = finish_words if is_in_words(width) else finish_bytes
    numbers = (np.int32(erase_mode), np.int32(precision), np.int32(height), np.int32(width))
    launch(function, count * -(-height // STRIP), threads_for(width), views, table, levels, *numbers, images)
