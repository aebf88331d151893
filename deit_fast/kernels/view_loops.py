"""Loops of operations over a view, in place, as Pillow's operations do it.

What happens to a pixel is in `pixel`. Memory is flat wherever neighbours do not matter, so that LLVM makes vectors of the
loops.
"""

from __future__ import annotations

import numpy as np

from deit_fast.kernels import pixel
from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.vectors import copy_bytes, floats, load_word, store_word

_CHANNELS = 3
_STRIPE = 192  # bytes: whole pixels, and whole vector registers
_TABLES = 4  # histograms of a channel, taken in turns: an increment need not wait for the one before
_WORD = 8  # bytes
_GROUP = 24  # whole words, pixels and turns


def equalize_bytes(height: int, width: int) -> int:
    """Scratch that `equalize` needs: histograms, whatever the size of the view, and a table."""
    return (4 * _TABLES + 1) * _CHANNELS * 256 + 8


def sharpness_bytes(height: int, width: int) -> int:
    """Scratch that `sharpness` needs: sums of a row's columns, and a copy of the view."""
    return (height + 2) * _CHANNELS * width


@compiled()
def _extremes(levels, lows, highs):  # type: ignore[no-untyped-def]
    """Least and greatest level at each place of a stripe. Two loops: as one, LLVM does not make vectors of it."""
    lows[:] = 255
    highs[:] = 0
    for start in range(0, levels.size, _STRIPE):
        stripe = levels[start : start + _STRIPE]
        for i in range(stripe.size):
            lows[i] = min(lows[i], stripe[i])
        for i in range(stripe.size):
            highs[i] = max(highs[i], stripe[i])


@compiled()
def auto_contrast(levels):  # type: ignore[no-untyped-def]
    """Extremes and lines are kept for each place of a stripe: a place has the same channel in every stripe."""
    lows, highs = np.empty(_STRIPE, np.uint8), np.empty(_STRIPE, np.uint8)
    scales, offsets = np.empty(_STRIPE, np.float64), np.empty(_STRIPE, np.float64)
    _extremes(levels, lows, highs)
    changes = False
    for i in range(_CHANNELS, _STRIPE):
        lows[i % _CHANNELS] = min(lows[i % _CHANNELS], lows[i])
        highs[i % _CHANNELS] = max(highs[i % _CHANNELS], highs[i])
    for i in range(_STRIPE):
        scales[i], offsets[i] = pixel.contrast_line(np.int64(lows[i % _CHANNELS]), np.int64(highs[i % _CHANNELS]))
        changes |= scales[i] != 1.0
    for start in range(0, levels.size if changes else 0, _STRIPE):
        stripe = levels[start : start + _STRIPE]
        for i in range(stripe.size):
            stripe[i] = pixel.stretched(stripe[i], scales[i], offsets[i])


@compiled()
def _count(levels, counts):  # type: ignore[no-untyped-def]
    """counts (_TABLES, _CHANNELS, 256) flat uint32, zero before: how often each level occurs in each channel."""
    whole = levels.size - levels.size % _GROUP
    for start in range(0, whole, _GROUP):
        for i in range(0, _GROUP, _WORD):
            word = load_word(levels.ctypes.data + start + i)
            for k in range(_WORD):
                table = (i + k) % (_TABLES * _CHANNELS)
                counts[np.uint64(256 * table) + (word >> np.uint64(8 * k) & np.uint64(255))] += np.uint32(1)
    for i in range(whole, levels.size):
        counts[256 * (i % _CHANNELS) + levels[i]] += np.uint32(1)
    for i in range(_CHANNELS * 256, counts.size):
        counts[i % (_CHANNELS * 256)] += counts[i]


@compiled()
def _look_up(levels, tables):  # type: ignore[no-untyped-def]
    """levels become what the tables (_CHANNELS, 256), flat uint8, have for them; by words, fewer loads and stores."""
    whole = levels.size - levels.size % _GROUP
    for start in range(0, whole, _GROUP):
        for i in range(0, _GROUP, _WORD):
            word, out = load_word(levels.ctypes.data + start + i), np.uint64(0)
            for k in range(_WORD):
                table, shift = np.uint64(256 * ((i + k) % _CHANNELS)), np.uint64(8 * k)
                out |= np.uint64(tables[table + (word >> shift & np.uint64(255))]) << shift
            store_word(levels.ctypes.data + start + i, out)
    for i in range(whole, levels.size):
        levels[i] = tables[256 * (i % _CHANNELS) + levels[i]]


@compiled()
def equalize(levels, scratch):  # type: ignore[no-untyped-def]
    counts = floats(scratch, 0, _TABLES * _CHANNELS * 256).view(np.uint32)
    tables = scratch[4 * _TABLES * _CHANNELS * 256 + 8 :][: _CHANNELS * 256]
    for i in range(counts.size):
        counts[i] = 0
    _count(levels, counts)
    for channel in range(_CHANNELS):
        _equalizing_table(counts[256 * channel :][:256], tables[256 * channel :][:256])
    _look_up(levels, tables)


@compiled()
def _equalizing_table(counts, table):  # type: ignore[no-untyped-def]
    brightest = 255
    while counts[brightest] == 0:
        brightest -= 1
    num_pixels, num_darker = np.int64(0), np.int64(0)
    for level in range(256):
        num_pixels += np.int64(counts[level])
    step = pixel.equalize_step(num_pixels, counts[brightest])
    for level in range(256):
        table[level] = pixel.equalized(num_darker, step) if step > 0 else level
        num_darker += np.int64(counts[level])


@compiled()
def grey(view):  # type: ignore[no-untyped-def]
    levels = view.reshape(view.size)
    for i in range(view.size // _CHANNELS):
        grey = pixel.luma(levels[3 * i], levels[3 * i + 1], levels[3 * i + 2])
        levels[3 * i] = grey
        levels[3 * i + 1] = grey
        levels[3 * i + 2] = grey


@compiled()
def color(view, factor):  # type: ignore[no-untyped-def]
    levels = view.reshape(view.size)
    for i in range(view.size // _CHANNELS):
        red, green, blue = levels[3 * i], levels[3 * i + 1], levels[3 * i + 2]
        grey = pixel.luma(red, green, blue)
        levels[3 * i] = pixel.blended(grey, red, factor)
        levels[3 * i + 1] = pixel.blended(grey, green, factor)
        levels[3 * i + 2] = pixel.blended(grey, blue, factor)


@compiled()
def contrast(view, factor):  # type: ignore[no-untyped-def]
    levels = view.reshape(view.size)
    total = np.int64(0)
    for i in range(view.size // _CHANNELS):
        total += pixel.luma(levels[3 * i], levels[3 * i + 1], levels[3 * i + 2])
    mean = pixel.mean_level(total, view.size // _CHANNELS)
    for i in range(view.size):
        levels[i] = pixel.blended(mean, levels[i], factor)


@compiled()
def sharpness(view, factor, scratch):  # type: ignore[no-untyped-def]
    """From a copy; the outermost rows and columns stay. Sums of three rows are made once for each byte, in 16 bits."""
    height, length, size = view.shape[0], view.shape[1] * _CHANNELS, view.size
    columns, copy = scratch[: 2 * length].view(np.uint16), scratch[2 * length :][:size]
    copy_bytes(view, copy)
    levels, span = view.reshape(size), np.uint64(length)
    for y in range(1, height - 1):
        start = np.uint64((y - 1) * length)
        for i in range(length):
            at = start + np.uint64(i)
            columns[i] = np.uint16(copy[at]) + np.uint16(copy[at + span]) + np.uint16(copy[at + span + span])
        start = np.uint64(y * length + _CHANNELS)
        for i in range(length - 2 * _CHANNELS):
            level = copy[start + np.uint64(i)]
            smooth = pixel.smoothed(columns[i] + columns[i + 3] + columns[i + 6], level)
            levels[start + np.uint64(i)] = pixel.blended(smooth, level, factor)
