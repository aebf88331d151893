"""Takes uint8 views and the steps of each, on the device, gives the views as `kernels.operations` makes them: a block for each.

A step is a look-up table for each channel, which the block makes in its shared memory; or arithmetic on each pixel; or it reads
neighbours, for which the view is first copied. A block goes through the steps of its view one after the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from deit_fast.kernels import pixel
from deit_fast.kernels.affine import ROTATE, SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y, affine_map
from deit_fast.kernels.by_code import choosing
from deit_fast.kernels.cuda.driver import cuda, device_function, kernel, launch
from deit_fast.kernels.cuda.quads import box, copy_to_quads, load_pixel, sharpen, store_pixel
from deit_fast.kernels.cuda.warp import quarters_of, turn_by_quarters, warp
from deit_fast.kernels.operation_table import CODES, NOTHING, OPERATIONS
from deit_fast.kernels.resample import BICUBIC

# Two blocks on a multiprocessor: one goes on while the other waits for all its threads, or lets few of them make a table; and
# the 256 views of a batch are at work at once on 132 multiprocessors. Blocks of 1,024 threads would come in two rounds.
THREADS = 512

_LEVELS = 256
_CHANNELS = 3
_TABLE = _CHANNELS * _LEVELS
_COPIES = 4  # of a histogram, for threads in turns: fewer of them meet at one counter
_COUNTS = _COPIES * _TABLE
_GREY = CODES["grey"]


@device_function
def _extremes(levels, count, counts, first, step):  # type: ignore[no-untyped-def]
    """counts[0:3] = the least level of each channel, counts[3:6] = the greatest."""
    for channel in range(first, _CHANNELS, step):
        counts[channel], counts[channel + _CHANNELS] = np.int32(255), np.int32(0)
    cuda.syncthreads()
    low_red, low_green, low_blue = np.int32(255), np.int32(255), np.int32(255)
    high_red, high_green, high_blue = np.int32(0), np.int32(0), np.int32(0)
    for i in range(first, count, step):
        red, green, blue = load_pixel(levels, i)
        low_red, high_red = min(low_red, np.int32(red)), max(high_red, np.int32(red))
        low_green, high_green = min(low_green, np.int32(green)), max(high_green, np.int32(green))
        low_blue, high_blue = min(low_blue, np.int32(blue)), max(high_blue, np.int32(blue))
    cuda.atomic.min(counts, 0, low_red)
    cuda.atomic.min(counts, 1, low_green)
    cuda.atomic.min(counts, 2, low_blue)
    cuda.atomic.max(counts, 3, high_red)
    cuda.atomic.max(counts, 4, high_green)
    cuda.atomic.max(counts, 5, high_blue)
    cuda.syncthreads()


@device_function
def _luma_total(levels, count, total, first, step):  # type: ignore[no-untyped-def]
    """total[0] = the sum of the lumas of all pixels."""
    if first == 0:
        total[0] = np.int64(0)
    cuda.syncthreads()
    own = np.int64(0)
    for i in range(first, count, step):
        red, green, blue = load_pixel(levels, i)
        own += pixel.luma(red, green, blue)
    cuda.atomic.add(total, 0, own)
    cuda.syncthreads()


@device_function
def _histogram(levels, count, counts, first, step):  # type: ignore[no-untyped-def]
    """counts[0:768] = how many pixels are darker than each level in each channel; from 768 on, the brightest levels' counts.

    The latter are those of the brightest level that occurs in each channel.
    """
    for i in range(first, _COUNTS, step):
        counts[i] = np.int32(0)
    cuda.syncthreads()
    start = np.int32(first % _COPIES) * np.int32(_TABLE)
    for i in range(first, count, step):
        red, green, blue = load_pixel(levels, i)
        cuda.atomic.add(counts, np.int32(start + np.int32(red)), np.int32(1))
        cuda.atomic.add(counts, np.int32(start + np.int32(_LEVELS) + np.int32(green)), np.int32(1))
        cuda.atomic.add(counts, np.int32(start + np.int32(2 * _LEVELS) + np.int32(blue)), np.int32(1))
    cuda.syncthreads()
    for i in range(first, _TABLE, step):
        for copy in range(1, _COPIES):
            counts[i] += counts[i + copy * _TABLE]
    cuda.syncthreads()
    for channel in range(first, _CHANNELS, step):
        darker, brightest = np.int32(0), np.int32(0)
        for i in range(channel * _LEVELS, (channel + 1) * _LEVELS):
            here = counts[i]
            counts[i] = darker
            darker = np.int32(darker + here)
            brightest = here if here > 0 else brightest
        counts[_TABLE + channel] = brightest
    cuda.syncthreads()


@device_function
def _stretched(level, channel, counts):  # type: ignore[no-untyped-def]
    scale, offset = pixel.contrast_line(np.int64(counts[channel]), np.int64(counts[channel + _CHANNELS]))
    return pixel.stretched(level, scale, offset)


@device_function
def _equalized(level, channel, count, counts):  # type: ignore[no-untyped-def]
    step = pixel.equalize_step(count, counts[_TABLE + channel])
    return pixel.equalized(counts[channel * _LEVELS + level], step) if step > 0 else np.int32(level)


@device_function
def _contrasted(level, argument, count, total):  # type: ignore[no-untyped-def]
    return pixel.blended(pixel.mean_level(total[0], count), level, np.float32(argument))


# Operations that a look-up table for each channel makes: what the table has for a level, an int32. By themselves these know
# level, channel and argument; from the view, its number of pixels, count, and what has been counted before.
_LEVEL_MAPS = {CODES[operation.name]: operation.by_level for operation in OPERATIONS if operation.by_level}
_LEVEL_MAPS |= {CODES["auto_contrast"]: _stretched, CODES["equalize"]: _equalized, CODES["contrast"]: _contrasted}
_COUNTED = {CODES["auto_contrast"]: _extremes, CODES["equalize"]: _histogram, CODES["contrast"]: _luma_total}

_mapped = device_function(
    choosing(
        "_mapped(code, argument, level, channel, count, counts, total)",
        _LEVEL_MAPS,
        __name__,
        otherwise="return np.int32(level)",
    )
)
_count = device_function(choosing("_count(code, levels, count, counts, total, first, step)", _COUNTED, __name__))


@device_function
def _by_table(code, argument, levels, count, tables, counts, total, first, step):  # type: ignore[no-untyped-def]
    _count(code, levels, count, counts, total, first, step)
    for i in range(first, _TABLE, step):
        channel = np.int32(i // _LEVELS)
        tables[i] = _mapped(code, argument, np.int32(i - channel * _LEVELS), channel, count, counts, total)
    cuda.syncthreads()
    for i in range(first, count, step):
        red, green, blue = load_pixel(levels, i)
        store_pixel(levels, i, tables[np.int32(red)], tables[_LEVELS + np.int32(green)], tables[2 * _LEVELS + np.int32(blue)])


@device_function
def _by_luma(code, argument, levels, count, first, step):  # type: ignore[no-untyped-def]
    """Greyed, or blended with grey."""
    factor = np.float32(argument)
    for i in range(first, count, step):
        red, green, blue = load_pixel(levels, i)
        grey = pixel.luma(red, green, blue)
        if code == _GREY:
            store_pixel(levels, i, grey, grey, grey)
        else:
            red, green, blue = (
                pixel.blended(grey, red, factor),
                pixel.blended(grey, green, factor),
                pixel.blended(grey, blue, factor),
            )
            store_pixel(levels, i, red, green, blue)


@device_function
def _sharpness(argument, levels, quads, count, height, width, first, step):  # type: ignore[no-untyped-def]
    copy_to_quads(levels, quads, count, first, step)
    cuda.syncthreads()
    sharpen(quads, levels, height, width, np.float32(argument), first, step)


@device_function
def _blur(argument, levels, quads, height, width, first, step):  # type: ignore[no-untyped-def]
    """Three boxes along the rows, three down the columns, to and fro between levels and quads."""
    weights = pixel.box_weights(argument)
    for number in range(6):
        box(levels, quads, number % 2 == 1, height, width, number >= 3, weights, first, step)
        cuda.syncthreads()


@device_function
def _affine(code, argument, bicubic, fill, matrix, levels, quads, height, width, first, step):  # type: ignore[no-untyped-def]
    quarters = quarters_of(argument, height, width) if code == ROTATE else -1
    if quarters == 0:
        return
    if first == 0 and quarters < 0:  # by one thread: sines in float64 are slow
        a, b, c, d, e, f = affine_map(code, argument, height, width)
        matrix[0], matrix[1], matrix[2], matrix[3], matrix[4], matrix[5] = a, b, c, d, e, f
    copy_to_quads(levels, quads, height * width, first, step)
    cuda.syncthreads()
    if quarters > 0:
        turn_by_quarters(quads, levels, height, width, quarters, first, step)
    else:
        warp(code, matrix, bicubic, fill, quads, levels, height, width, first, step)


# What makes an operation, on all threads of a block, of what `_GIVEN` names. Quads, matrix, tables, counts and total hold
# nothing between operations.
_FORMS = {
    **dict.fromkeys(_LEVEL_MAPS, _by_table),
    **dict.fromkeys((_GREY, CODES["color"]), _by_luma),
    CODES["sharpness"]: _sharpness,
    CODES["blur"]: _blur,
    **dict.fromkeys((ROTATE, SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y), _affine),
}
_GIVEN = "argument, bicubic, fill, matrix, levels, quads, tables, counts, total, height, width, count, first, step"
_apply_step = device_function(choosing(f"_apply_step(code, {_GIVEN})", _FORMS, __name__))


@kernel(threads=THREADS, blocks=2)
def _apply_steps(steps, views, scratch, height, width, interpolation, fill):  # type: ignore[no-untyped-def]
    tables = cuda.shared.array(_TABLE, np.uint8)
    counts = cuda.shared.array(_COUNTS, np.int32)
    matrix = cuda.shared.array(6, np.float64)
    total = cuda.shared.array(1, np.int64)
    view, first, step = cuda.blockIdx.x, np.int32(cuda.threadIdx.x), np.int32(cuda.blockDim.x)
    count = np.int32(height * width)
    start = np.int64(view) * count
    levels, quads = views[3 * start : 3 * (start + count)], scratch[start : start + count]
    bicubic = interpolation == BICUBIC
    for number in range(steps.shape[1]):
        code, argument = np.int32(steps[view, number, 0]), steps[view, number, 1]
        if code == NOTHING:
            continue
        _apply_step(
            code, argument, bicubic, fill, matrix, levels, quads, tables, counts, total, height, width, count, first, step
        )
        cuda.syncthreads()


def apply_steps(
    steps: Any,
    views: Any,
    scratch: Any,
    shape: tuple[int, int, int],
    interpolation: int,
    fill: tuple[int, int, int],
    *,
    threads: int = THREADS,
) -> None:
    """Queues all steps of all views, in place.

    Arrays from `cuda.array`: steps (>= B, S, 2) float64, as `plan.draw_views` leaves them; views, flat: B H W 3 uint8; scratch,
    flat: B H W uint32, which holds nothing between calls. shape: (B, H, W); interpolation: of `Policy`; fill: the colour of
    what lies outside.
    """
    count, height, width = shape
    quad = np.uint32(fill[0] | fill[1] << 8 | fill[2] << 16)
    numbers = np.int32(height), np.int32(width), np.int32(interpolation), quad
    launch(_apply_steps, count, threads, steps, views, scratch, *numbers)
