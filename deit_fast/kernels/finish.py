"""Takes a batch of uint8 views, gives normalised, erased and mixed images in float32, float16 or bfloat16.

One pass: a row of a view is made in the cache, of its own bytes and its partner's, rounded, and streamed to memory. As in
timm, a view is normalised, then erased, then mixed: a partner comes along with its box and its noise.
"""

from __future__ import annotations

import numpy as np
from numba import carray, prange, types
from numpy.typing import NDArray

from deit_fast.kernels import erase
from deit_fast.kernels.apart import Apart
from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.mix import CUTMIX, MIXUP, Mix
from deit_fast.kernels.round import FLOAT32, round_row
from deit_fast.kernels.share_out import take
from deit_fast.kernels.stream import LINE, copy, fence, stream_lines
from deit_fast.kernels.transpose import void_pointer


@compiled(inlined=True)
def normalise(value, factor, offset):  # type: ignore[no-untyped-def]
    """A grey level 0 to 255 as the network sees it; factor and offset of its channel, float32, from `factor_and_offset`."""
    return np.float32(value) * factor + offset


@compiled(inlined=True)
def blend(own, other, lam, rest):  # type: ignore[no-untyped-def]
    """Mixup of two values; lam and rest = 1 - lam: the shares, all float32."""
    return lam * own + rest * other


@compiled()
def factor_and_offset(mean, std):  # type: ignore[no-untyped-def]
    """What `normalise` wants for a channel, from its mean and standard deviation in units of 255 grey levels."""
    return np.float32(1.0 / (255.0 * std)), np.float32(-mean / std)


@compiled(inlined=True)
def _box(boxes, b):  # type: ignore[no-untyped-def]
    return boxes[b, 0], boxes[b, 1], boxes[b, 2], boxes[b, 3]


@compiled(inlined=True)
def _floats(address, length):  # type: ignore[no-untyped-def]
    return carray(void_pointer(address), (length,), types.float32)


@compiled()
def _prepare(mean, std, scratch, stride, length):  # type: ignore[no-untyped-def]
    """Fills the first two of a worker's five scratch rows with factor and offset of each value of a row."""
    factor, offset = _floats(scratch, length), _floats(scratch + 4 * stride, length)
    for i in range(length):
        factor[i], offset[i] = factor_and_offset(mean[i % 3], std[i % 3])


@compiled()
def _finish_view(own_view, other_view, own_noise, other_noise, how, precision, scratch, stride, height, length, image):  # type: ignore[no-untyped-def]
    """Makes one image. Views, scratch and image are addresses.

    Not arrays, since an array that is handed on is counted with a locked instruction, and that waits until all that was
    streamed has arrived: with one in each row a view took three times as long.
    """
    factor, offset = _floats(scratch, length), _floats(scratch + 4 * stride, length)
    noise, buffer = _floats(scratch + 8 * stride, length + 3), scratch + 16 * stride
    own = carray(void_pointer(own_view), (height * length,), types.uint8)
    other = carray(void_pointer(other_view), (height * length,), types.uint8)
    bytes_per_row = length * (4 if precision == FLOAT32 else 2)
    # the buffer holds what comes next, from the line on in which the image begins
    skip = filled = image % LINE
    target = image - skip
    for y in range(height):
        # a float32 row is made where it is streamed from
        row = _floats(buffer + filled if precision == FLOAT32 else scratch + 12 * stride, length)
        _make_row(own, other, y, factor, offset, own_noise, other_noise, how, noise, row)
        if precision != FLOAT32:
            round_row(row, precision, carray(void_pointer(buffer + filled), (length,), types.uint16))
        filled += bytes_per_row
        streamed = stream_lines(buffer, target, skip, filled)
        if streamed > 0:
            target, filled, skip = target + streamed, filled - streamed, np.int64(0)
    copy(buffer + skip, target + skip, filled - skip)
    fence()


@compiled(inlined=True)
def _make_row(own, other, y, factor, offset, own_noise, other_noise, how, noise, row):  # type: ignore[no-untyped-def]
    """Fills row (3 W,) float32 with row y of a view: the pieces of it that are its own, its partner's, or noise."""
    kind, lam, rest, y0, y1, x0, x1 = how
    length = len(row)
    start = y * length
    _normalise_piece(own, start, 0, length, factor, offset, row)
    first, last = _fill_erased(own_noise, y, 0, length, noise)
    _copy_piece(noise, first, last, row)
    if kind == MIXUP:
        first, last = _fill_erased(other_noise, y, 0, length, noise)
        _blend_piece(other, start, 0, first, factor, offset, lam, rest, row)
        for i in range(np.uint64(first), np.uint64(last)):
            row[i] = blend(row[i], noise[i], lam, rest)
        _blend_piece(other, start, last, length, factor, offset, lam, rest, row)
    elif kind == CUTMIX and y0 <= y < y1:
        _normalise_piece(other, start, 3 * x0, 3 * x1, factor, offset, row)
        first, last = _fill_erased(other_noise, y, 3 * x0, 3 * x1, noise)
        _copy_piece(noise, first, last, row)


@compiled(inlined=True)
def _fill_erased(noise_of, y, begin, end, noise):  # type: ignore[no-untyped-def]
    """(first, last) of the values of row y from begin to end - 1 that are erased, filled into noise; (end, end) for none."""
    seed, view_id, mode, y0, y1, x0, x1 = noise_of
    first, last = max(3 * x0, begin), min(3 * x1, end)
    if not y0 <= y < y1 or first >= last:
        return end, end
    erase.fill_noise(seed, view_id, mode, y, first, last, noise)
    return first, last


# indices are unsigned: they are not checked for wrap-around, so the loops are vectorised


@compiled(inlined=True)
def _copy_piece(source, first, last, row):  # type: ignore[no-untyped-def]
    for i in range(np.uint64(first), np.uint64(last)):
        row[i] = source[i]


@compiled(inlined=True)
def _normalise_piece(view, start, first, last, factor, offset, row):  # type: ignore[no-untyped-def]
    """Values first to last - 1 of the row that begins at `start` of its view."""
    start = np.uint64(start)
    for i in range(np.uint64(first), np.uint64(last)):
        row[i] = normalise(view[start + i], factor[i], offset[i])


@compiled(inlined=True)
def _blend_piece(view, start, first, last, factor, offset, lam, rest, row):  # type: ignore[no-untyped-def]
    start = np.uint64(start)
    for i in range(np.uint64(first), np.uint64(last)):
        row[i] = blend(row[i], normalise(view[start + i], factor[i], offset[i]), lam, rest)


_INTEGERS = (types.int64,) * 4
_NOISE = types.Tuple((types.uint64, types.uint64, types.int64, *_INTEGERS))
_HOW = types.Tuple((types.int64, types.float32, types.float32, *_INTEGERS))
VIEW = Apart(_finish_view, types.void(types.int64, types.int64, _NOISE, _NOISE, _HOW, *(types.int64,) * 6))
_call_view = VIEW.call


# parallel itself, not a front of a parallel function: Numba 0.68 jumps to address 0 where a cached function, compiled in a
# process that had loaded the parallel one from its cache, is loaded in a later process
@compiled(parallel=True)
def finish_views_by(view_at, views, ids, seed, mix, erased, erase_mode, mean, std, precision, num_workers, images):  # type: ignore[no-untyped-def]
    """`finish_views`, of images as bytes (B, H, W, 3 n), n for each value; view_at: VIEW.address."""
    bytes_per_value = 4 if precision == FLOAT32 else 2
    assert images.shape[:3] == views.shape[:3]
    assert images.shape[3] == 3 * bytes_per_value
    count, height, length = views.shape[0], views.shape[1], 3 * views.shape[2]
    key = np.uint64(seed)
    source, target = views.reshape(views.size).ctypes.data, images.reshape(images.size).ctypes.data  # contiguous ones alone
    stride = -(-(length + 3) // 16) * 16  # in float32: whole lines
    counter = np.zeros(1, np.int64)
    for _ in prange(num_workers):
        memory = np.empty(5 * stride + 32, np.float32)  # five rows, and two lines more
        scratch = -(-memory.ctypes.data // LINE) * LINE
        _prepare(mean, std, scratch, stride, length)
        b = take(counter.ctypes.data)
        while b < count:
            other = mix.partner[b]
            how = (mix.kind[b], np.float32(mix.lam[b]), np.float32(1.0 - mix.lam[b]), *_box(mix.box, b))
            own_noise = (key, ids[b], erase_mode, *_box(erased, b))
            other_noise = (key, ids[other], erase_mode, *_box(erased, other))
            own_view, other_view = source + b * height * length, source + other * height * length
            image = target + b * height * length * bytes_per_value
            _call_view(
                view_at, own_view, other_view, own_noise, other_noise, how, precision, scratch, stride, height, length, image
            )
            b = take(counter.ctypes.data)
        memory[0] = 0.0  # keeps it until here


def finish_views(
    views: NDArray[np.uint8],
    ids: NDArray[np.uint64],
    seed: np.uint64,
    mix: Mix,
    erased: NDArray[np.int64],
    erase_mode: int,
    mean: NDArray[np.float64],
    std: NDArray[np.float64],
    precision: int,
    num_workers: int,
    images: NDArray[np.generic],
) -> None:
    """Fills images with the views, normalised, erased and mixed, on num_workers threads.

    views (B, H, W, 3) uint8; ids (B,) uint64 of the views; mix: a `mix.Mix` of the batch; erased (B, 4) int64: boxes from
    `erase.draw_boxes`, with erase_mode from `erase.MODES`; mean, std (3,) float64 in units of 255 grey levels; precision:
    from `round.PRECISIONS`; images (B, H, W, 3) contiguous, written: float32, float16, or uint16 that holds the bits of float16
    or bfloat16. What is written does not depend on num_workers.
    """
    what, how = (views, ids, np.uint64(seed), mix, erased), (erase_mode, mean, std, precision, num_workers)
    finish_views_by(VIEW.address, *what, *how, images.view(np.uint8))
