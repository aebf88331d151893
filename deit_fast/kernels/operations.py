"""Takes views and what each operation is set to, gives the views as Pillow's operations make them.

The numbers of the operations, and what their one argument means, are in `operation_codes`. What happens to a pixel is in
`pixel`; here are the loops over a view, over flat memory wherever neighbours do not matter, so that LLVM makes them vectors.
"""

from __future__ import annotations

import math

import numpy as np
from numba import prange, types
from numpy.typing import NDArray

from deit_fast.kernels import operation_codes as codes_of
from deit_fast.kernels import pixel
from deit_fast.kernels.apart import Apart
from deit_fast.kernels.blur import blur, blur_bytes
from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.rotation import rotate
from deit_fast.kernels.share_out import take
from deit_fast.kernels.vectors import copy_bytes, floats, load_word, store_word
from deit_fast.kernels.warp import shift_all, shift_columns, shift_rows, warp_bytes

_CHANNELS = 3
_STRIPE = 192  # bytes: whole pixels, and whole vector registers
_TABLES = 4  # histograms of a channel, taken in turns: an increment need not wait for the one before
_WORD = 8  # bytes
_GROUP = 24  # whole words, pixels and turns


def scratch_bytes(height: int, width: int) -> int:
    """Length of the uint8 scratch that `apply` needs for a view of this size."""
    histograms = (4 * _TABLES + 1) * _CHANNELS * 256 + 8
    sharpness = (height + 2) * _CHANNELS * width
    most = max(histograms, sharpness, warp_bytes(height, width), blur_bytes(height, width))
    return -(-most // 64) * 64


@compiled()
def _invert(levels):  # type: ignore[no-untyped-def]
    for i in range(levels.size):
        levels[i] = pixel.inverted(levels[i])


@compiled()
def _solarize(levels, threshold):  # type: ignore[no-untyped-def]
    threshold = np.int32(math.ceil(min(max(threshold, 0.0), 256.0)))
    for i in range(levels.size):
        levels[i] = pixel.solarized(levels[i], threshold)


@compiled()
def _solarize_add(levels, added):  # type: ignore[no-untyped-def]
    added = np.int32(added)
    for i in range(levels.size):
        levels[i] = pixel.solarize_added(levels[i], added)


@compiled()
def _posterize(levels, bits):  # type: ignore[no-untyped-def]
    mask = pixel.posterize_mask(bits)
    for i in range(levels.size):
        levels[i] = pixel.posterized(levels[i], mask)


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
def _auto_contrast(levels):  # type: ignore[no-untyped-def]
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
def _equalize(levels, scratch):  # type: ignore[no-untyped-def]
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
def _grey(view):  # type: ignore[no-untyped-def]
    levels = view.reshape(view.size)
    for i in range(view.size // _CHANNELS):
        grey = pixel.luma(levels[3 * i], levels[3 * i + 1], levels[3 * i + 2])
        levels[3 * i] = grey
        levels[3 * i + 1] = grey
        levels[3 * i + 2] = grey


@compiled()
def _color(view, factor):  # type: ignore[no-untyped-def]
    levels = view.reshape(view.size)
    for i in range(view.size // _CHANNELS):
        red, green, blue = levels[3 * i], levels[3 * i + 1], levels[3 * i + 2]
        grey = pixel.luma(red, green, blue)
        levels[3 * i] = pixel.blended(grey, red, factor)
        levels[3 * i + 1] = pixel.blended(grey, green, factor)
        levels[3 * i + 2] = pixel.blended(grey, blue, factor)


@compiled()
def _brightness(levels, factor):  # type: ignore[no-untyped-def]
    for i in range(levels.size):
        levels[i] = pixel.blended(np.int32(0), levels[i], factor)


@compiled()
def _contrast(view, factor):  # type: ignore[no-untyped-def]
    levels = view.reshape(view.size)
    total = np.int64(0)
    for i in range(view.size // _CHANNELS):
        total += pixel.luma(levels[3 * i], levels[3 * i + 1], levels[3 * i + 2])
    mean = pixel.mean_level(total, view.size // _CHANNELS)
    for i in range(view.size):
        levels[i] = pixel.blended(mean, levels[i], factor)


@compiled()
def _sharpness(view, factor, scratch):  # type: ignore[no-untyped-def]
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


@compiled()
def apply(code, argument, bicubic, fill, view, scratch):  # type: ignore[no-untyped-def]
    """One operation, in place.

    code: one of `operation_codes`; argument float64, of the meaning that stands there; bicubic: whether affine operations
    interpolate so, else bilinearly; fill: three ints, the colour of what lies outside; view (H, W, 3) uint8, contiguous;
    scratch (scratch_bytes(H, W),) uint8, which holds nothing between calls.
    """
    levels = view.reshape(view.size)
    factor = np.float32(argument)
    if code == codes_of.AUTO_CONTRAST:
        _auto_contrast(levels)
    elif code == codes_of.EQUALIZE:
        _equalize(levels, scratch)
    elif code == codes_of.INVERT:
        _invert(levels)
    elif code == codes_of.ROTATE:
        rotate(view, argument, bicubic, fill, scratch)
    elif code == codes_of.POSTERIZE:
        _posterize(levels, argument)
    elif code == codes_of.SOLARIZE:
        _solarize(levels, argument)
    elif code == codes_of.SOLARIZE_ADD:
        _solarize_add(levels, argument)
    elif code == codes_of.COLOR:
        _color(view, factor)
    elif code == codes_of.CONTRAST:
        _contrast(view, factor)
    elif code == codes_of.BRIGHTNESS:
        _brightness(levels, factor)
    elif code == codes_of.SHARPNESS:
        _sharpness(view, factor, scratch)
    elif code == codes_of.SHEAR_X:
        shift_rows(view, argument, 0.0, bicubic, fill, scratch)
    elif code == codes_of.SHEAR_Y:
        shift_columns(view, argument, bicubic, fill, scratch)
    elif code == codes_of.TRANSLATE_X:
        shift_rows(view, 0.0, argument, bicubic, fill, scratch)
    elif code == codes_of.TRANSLATE_Y:
        shift_all(view, argument, bicubic, fill, scratch)
    elif code == codes_of.GREY:
        _grey(view)
    elif code == codes_of.BLUR:
        blur(view, argument, scratch)


APPLY = Apart(
    apply,
    types.void(
        types.int32, types.float64, types.boolean, types.UniTuple(types.int64, 3), types.uint8[:, :, ::1], types.uint8[::1]
    ),
)
_call_apply = APPLY.call


@compiled(parallel=True)
def apply_all_by(apply_at, codes, arguments, bicubic, fill, views, scratch):  # type: ignore[no-untyped-def]
    """`apply_all`; apply_at: APPLY.address."""
    counter = np.zeros(1, np.int64)
    for worker in prange(scratch.shape[0]):
        view = take(counter.ctypes.data)
        while view < views.shape[0]:
            for step in range(codes.shape[1]):
                _call_apply(apply_at, codes[view, step], arguments[view, step], bicubic, fill, views[view], scratch[worker])
            view = take(counter.ctypes.data)


def apply_all(
    codes: NDArray[np.int32],
    arguments: NDArray[np.float64],
    bicubic: bool,
    fill: tuple[int, ...],
    views: NDArray[np.uint8],
    scratch: NDArray[np.uint8],
) -> None:
    """`apply` to a batch: S operations after each other on each view, views shared out among the rows of the scratch.

    codes (B, S) int32; arguments (B, S) float64; views (B, H, W, 3) uint8, in place; scratch (num_workers,
    scratch_bytes(H, W)) uint8. What comes out does not depend on the number of workers.
    """
    apply_all_by(APPLY.address, codes, arguments, bicubic, fill, views, scratch)
