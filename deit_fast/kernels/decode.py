"""Takes the stored images of a batch and a plan for each view, gives the views.

Views of one image that stand next to each other are made together, by one thread: of a JPEG with tiles only those under the
crops are decoded, for all crops at once or for some apart, whichever takes fewer tiles: by our own decoder, or by TurboJPEG
where that does not know the kind of JPEG. Raw pixels are resampled from where they lie.
"""

from __future__ import annotations

import numpy as np
from numba import carray, prange, types
from numpy.typing import NDArray

from deit_fast.kernels import crop, resample, rng
from deit_fast.kernels.apart import Apart
from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg import decode_half, decode_window, tiles, turbojpeg
from deit_fast.kernels.share_out import take
from deit_fast.kernels.transpose import void_pointer

# Columns of `stored` (B, STORED_LENGTH) int64: the image that each view is of, and its row of the beton's index
START = 0  # first byte in the file
SIZE = 1  # bytes
MODE = 2  # FFCV's
HEIGHT = 3
WIDTH = 4
LENGTHS_START = 5  # of its tiles' lengths, in bytes from the first of all
NUM_TILES = 6
LENGTH_BYTES = 7  # of each length
INTERVAL = 8  # MCUs in a tile
HEADER_BYTES = 9
MCU_WIDTH = 10
MCU_HEIGHT = 11
STORED_LENGTH = 12

JPEG_MODE = 0
OTHER_LENGTH = 100
DAMAGED = 101
_TILES_OF_A_CALL = 1  # what starting the decoder costs, in tiles
_MOST_APART = 8  # views of an image of which it is tried whether to decode for some of them apart


@compiled()
def tiles_of(row, lengths):  # type: ignore[no-untyped-def]
    """(grid, bytes of the header, lengths of the tiles as bytes, bytes of each) of a stored JPEG, from its row of `stored`."""
    nothing = np.empty(0, np.uint8)
    num_tiles, length_bytes = row[NUM_TILES], row[LENGTH_BYTES]
    grid = tiles.grid_of(row[INTERVAL], num_tiles, row[MCU_WIDTH], row[MCU_HEIGHT], row[WIDTH], row[HEIGHT])
    start, size = row[LENGTHS_START], num_tiles * length_bytes
    if grid[0] == 0 or start < 0 or start > lengths[1] - size:
        return tiles.NO_TILES, np.int64(0), nothing, np.int64(0)
    return grid, row[HEADER_BYTES], carray(void_pointer(lengths[0] + start), (size,), np.uint8), length_bytes


@compiled()
def _store(row, four):  # type: ignore[no-untyped-def]
    row[0], row[1], row[2], row[3] = four


@compiled()
def _four(row):  # type: ignore[no-untyped-def]
    return row[0], row[1], row[2], row[3]


@compiled()
def box_of(plan):  # type: ignore[no-untyped-def]
    """The row of a plan as `crop.axes` wants it."""
    return plan[0], plan[1], plan[2], plan[3], plan[4], plan[5], plan[6], plan[7]


@compiled()
def _cluster(blocks, needs, denominators, cluster):  # type: ignore[no-untyped-def]
    """Joins views, not scaled, whose tiles are fewer together than apart: cluster[i] becomes the first view that i is decoded
    with, blocks[cluster[i]] the tiles and needs[cluster[i]] the pixels of all of them."""
    count = len(cluster)
    best = np.int64(0)
    while best >= 0:
        best = np.int64(-1)
        first = second = np.int64(0)
        for i in range(count):
            if cluster[i] == i and denominators[i] == 1:
                for j in range(i + 1, count):
                    if cluster[j] == j and denominators[j] == 1:
                        together = tiles.num_tiles_of(tiles.union(_four(blocks[i]), _four(blocks[j])))
                        apart = tiles.num_tiles_of(_four(blocks[i])) + tiles.num_tiles_of(_four(blocks[j]))
                        saved = apart + _TILES_OF_A_CALL - together
                        if saved > best or (count > _MOST_APART and best < 0):
                            best, first, second = max(saved, np.int64(0)), i, j
        if best >= 0:
            _store(blocks[first], tiles.union(_four(blocks[first]), _four(blocks[second])))
            _store(needs[first], tiles.union(_four(needs[first]), _four(needs[second])))
            for j in range(count):
                if cluster[j] == second:
                    cluster[j] = first


@compiled()
def _denominator(plan, max_denominator):  # type: ignore[no-untyped-def]
    """The largest of 1, 2, 4, 8 at which a view is not made from fewer pixels than it has."""
    denominator = np.int64(1)
    while 2 * denominator <= min(max_denominator, plan[2] // max(plan[4], 1), plan[3] // max(plan[5], 1)):
        denominator *= 2
    return denominator


_BYTES = types.uint8[::1]
HALF = Apart(
    decode_half.decode_half,
    types.int64(
        _BYTES, types.int64, _BYTES, types.int64, types.UniTuple(types.int64, 5), types.UniTuple(types.int64, 4),
        types.UniTuple(types.int64, 4), _BYTES, _BYTES,
    ),
)  # fmt: skip
call_half = HALF.call


def scaling_of(max_denominator: int) -> tuple[int, int]:
    """`scaling` of `decode_batch_by`: what decodes at half size is compiled only where it is used."""
    return max_denominator, HALF.address if max_denominator > 1 else 0


@compiled()
def _decode_part(stored, height, width, tiling, block, need, scaling, worker, layout):  # type: ignore[no-untyped-def]
    """(status, (first row, first column, height, width)) of the part of a JPEG that is then in the worker's pixels: of a
    block of its tiles, in which the needed pixels are right, or of all.

    scaling: (denominator, HALF.address)."""
    denominator, half_at = scaling
    grid, header_bytes, lengths, length_bytes = tiling
    pixels = carray(void_pointer(layout[2] + worker * layout[3]), (layout[3],), np.uint8)
    window = (np.int64(0), np.int64(0), height, width)
    encoded = stored
    if grid[0] > 0:
        window = tiles.pixels_of(grid, block)
        if denominator <= 2:  # at 1/4 and 1/8, of large images alone, TurboJPEG decodes
            scratch = carray(void_pointer(layout[6] + worker * layout[7]), (layout[7],), np.uint8)
            arguments = stored, header_bytes, lengths, length_bytes, grid, block, need, scratch, pixels
            status = decode_window.decode_window(*arguments) if denominator == 1 else call_half(half_at, *arguments)
            if status == decode_window.OK:
                return turbojpeg.OK, window
        # of another kind, or damaged: in both TurboJPEG is the judge
        out = carray(void_pointer(layout[4] + worker * layout[5]), (layout[5],), np.uint8)
        num_bytes = tiles.cut(stored, header_bytes, lengths, length_bytes, grid, block, out)
        if num_bytes < 0:
            return DAMAGED, window
        encoded = out[:num_bytes]
    handles = carray(void_pointer(layout[1]), (layout[0],), np.uint64)
    return turbojpeg.decode_scaled(handles, worker, encoded, window[2], window[3], denominator, pixels), window


@compiled()
def _show(pixels, window, denominator, plan, kind, worker, layout, view, status):  # type: ignore[no-untyped-def]
    """Resamples a view from decoded pixels (n,) uint8 of a window of its image; zeros if they are not to be used."""
    if status != turbojpeg.OK:
        view[:] = 0
        return
    rows = carray(void_pointer(layout[8] + worker * layout[9]), (layout[9],), np.uint8)
    integers = carray(void_pointer(layout[10] + 4 * worker * layout[11]), (layout[11],), np.int32)
    height, width = -(-window[2] // denominator), -(-window[3] // denominator)
    image = pixels[: height * width * 3].reshape(height, width, 3)
    vertical, horizontal = crop.axes(box_of(plan), window[0], window[1], denominator)
    resample.resample(image, vertical, horizontal, kind, plan[8] != 0, rows, integers, view)


@compiled()
def _decode_group(row, memory_at, lengths, plans, kind, scaling, worker, layout, views, statuses):  # type: ignore[no-untyped-def]
    """The views of one image."""
    count = len(plans)
    height, width = row[HEIGHT], row[WIDTH]
    stored = carray(void_pointer(memory_at + row[START]), (row[SIZE],), np.uint8)
    if row[MODE] != JPEG_MODE:
        whole = (np.int64(0), np.int64(0), height, width)
        for i in range(count):
            statuses[i] = turbojpeg.OK if stored.size == height * width * 3 else OTHER_LENGTH
            _show(stored, whole, np.int64(1), plans[i], kind, worker, layout, views[i], np.int64(statuses[i]))
        return
    tiling = tiles_of(row, lengths)
    grid = tiling[0]
    blocks, needs = np.zeros((count, 4), np.int64), np.zeros((count, 4), np.int64)
    # each view's own, and views that are scaled in decoding apart: what a view shows must not depend on other views
    denominators = np.empty(count, np.int64)
    cluster = np.arange(count)
    for i in range(count):
        denominators[i] = _denominator(plans[i], scaling[0])
        if grid[0] > 0:
            vertical, horizontal = crop.axes(box_of(plans[i]), 0, 0, 1)
            y0, y1 = resample.reach(kind, vertical, np.int64(views.shape[1]))
            x0, x1 = resample.reach(kind, horizontal, np.int64(views.shape[2]))
            _store(needs[i], (y0, y1, x0, x1))
            _store(blocks[i], tiles.tiles_under(grid, y0, y1, x0, x1))
    own_blocks, own_needs = blocks.copy(), needs.copy()
    _cluster(blocks, needs, denominators, cluster)
    pixels = carray(void_pointer(layout[2] + worker * layout[3]), (layout[3],), np.uint8)
    for i in range(count):
        if cluster[i] == i:
            block, need = _four(blocks[i]), _four(needs[i])
            how = denominators[i], scaling[1]
            status, window = _decode_part(stored, height, width, tiling, block, need, how, worker, layout)
            for j in range(i, count):
                if cluster[j] == i:
                    own_status, own_window = status, window
                    if status != turbojpeg.OK and grid[0] > 0:  # damage where this view does not look is not this view's
                        block, need = _four(own_blocks[j]), _four(own_needs[j])
                        own_status, own_window = _decode_part(stored, height, width, tiling, block, need, how, worker, layout)
                    statuses[j] = own_status
                    _show(pixels, own_window, denominators[j], plans[j], kind, worker, layout, views[j], own_status)


_ROWS, _VIEWS = types.int64[:, ::1], types.uint8[:, :, :, ::1]
GROUP = Apart(
    _decode_group,
    types.void(
        types.int64[::1], types.int64, types.UniTuple(types.int64, 2), _ROWS, types.int64,
        types.UniTuple(types.int64, 2), types.int64,
        types.UniTuple(types.int64, 12), _VIEWS, types.int32[::1],
    ),
)  # fmt: skip
call_group = GROUP.call


@compiled(parallel=True)
def decode_batch_by(group_at, ids, stored, memory_at, lengths, plans, kind, scaling, layout, views, statuses):  # type: ignore[no-untyped-def]
    """`decode_batch`; group_at: GROUP.address; scaling: `scaling_of` the largest denominator."""
    count = len(ids)
    starts = np.empty(count + 1, np.int64)
    num_groups = 0
    for i in range(count):
        if i == 0 or rng.sample_of(ids[i]) != rng.sample_of(ids[i - 1]):
            starts[num_groups] = i
            num_groups += 1
    starts[num_groups] = count
    counter = np.zeros(1, np.int64)
    for worker in prange(layout[0]):
        group = take(counter.ctypes.data)
        while group < num_groups:
            first, end = starts[group], starts[group + 1]
            call_group(
                group_at, stored[first], memory_at, lengths, plans[first:end], kind, scaling, np.int64(worker), layout,
                views[first:end], statuses[first:end],
            )  # fmt: skip
            group = take(counter.ctypes.data)


def decode_batch(
    ids: NDArray[np.uint64],
    stored: NDArray[np.int64],
    memory_at: int,
    lengths: tuple[int, int],
    plans: NDArray[np.int64],
    kind: int,
    max_denominator: int,
    layout: tuple[int, ...],
    views: NDArray[np.uint8],
    statuses: NDArray[np.int32],
) -> None:
    """Makes the views of a batch, each image by one worker.

    ids (B,) uint64 view ids; stored (B, STORED_LENGTH) int64: the image of each; memory_at: address of the file's first byte;
    lengths: (address, number of bytes) of the lengths of all tiles, zeros without an index: then images are decoded whole;
    plans (B, 9) int64, see `kernels.crop`; kind: resampling filter; max_denominator: 1, or up to 8 for DCT-scaled decoding
    where crops are that much larger than views; layout: (number of workers, address of the decoders' pointers, address and
    elements per worker of each array of scratch ...), see `data.load.decode`. Written: views (B, h, w, 3) uint8, zero where an
    image does not decode, and statuses (B,) int32.
    """
    where = (ids, stored, memory_at, lengths)
    decode_batch_by(GROUP.address, *where, plans, kind, scaling_of(max_denominator), layout, views, statuses)
