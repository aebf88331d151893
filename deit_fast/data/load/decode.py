"""Takes the stored bytes of images and a plan for each view, gives the views that the plans show.

Views of one image that stand next to each other are made together: the image is decoded once for them. Of a JPEG with tiles
only those under the crops are decoded, for all crops at once or for some apart, whichever takes fewer tiles: by our own
decoder, or by TurboJPEG where that does not know the kind of JPEG. Raw pixels are resampled from where they lie.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import carray, prange

from deit_fast.data.format import layout
from deit_fast.data.format.beton import JPEG_MODE, Beton
from deit_fast.data.format.index import Index
from deit_fast.kernels import crop, resample, rng
from deit_fast.kernels.addresses import HoldsAddresses
from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg import decode_scratch, decode_window, tiles, turbojpeg
from deit_fast.kernels.share_out import take
from deit_fast.kernels.transpose import void_pointer

OTHER_LENGTH = 100
DAMAGED = 101
_TILES_OF_A_CALL = 1  # what starting the decoder costs, in tiles
_MOST_APART = 8  # views of an image of which it is tried whether to decode for some of them apart

# the index as compiled code reads it, which knows no bytes without a type
_ROW_TYPE = np.dtype([(item[0], "<u8" if item[0] == "digest" else item[1]) for item in layout.INDEX_TYPE.descr])


@dataclass(frozen=True, eq=False)
class Stored:
    """What decoding needs to know of a beton's images beside FFCV's metadata; `places` are addresses for compiled code.

    places: (address of the index's rows, number of rows, address of the tile lengths, number of bytes of these); zeros without
    an index: then images are decoded whole.
    """

    max_height: int
    max_width: int
    max_jpeg_pixels: int
    max_jpeg_bytes: int
    places: tuple[int, int, int, int]
    index: Index | None

    def __reduce__(self) -> tuple[Any, ...]:
        """Elsewhere the index lies elsewhere."""
        largest = self.max_height, self.max_width, self.max_jpeg_pixels, self.max_jpeg_bytes
        return _stored, (largest, self.index)


def stored_of(beton: Beton, index: Index | None) -> Stored:
    """The Stored of a beton and its index, if it has one."""
    is_jpeg = beton.modes == JPEG_MODE
    pixels = beton.heights.astype(np.int64) * beton.widths
    most_pixels, most_bytes = int(pixels[is_jpeg].max(initial=0)), int(beton.sizes[is_jpeg].max(initial=0))
    return _stored((int(beton.heights.max()), int(beton.widths.max()), most_pixels, most_bytes), index)


def _stored(largest: tuple[int, int, int, int], index: Index | None) -> Stored:
    places = (0, 0, 0, 0)
    if index is not None:
        places = (index.rows.ctypes.data, len(index.rows), index.lengths.ctypes.data, len(index.lengths))
    return Stored(*largest, places, index)


class Scratch(HoldsAddresses):
    """What each worker needs to make views of up to a resolution from stored images: a TurboJPEG decoder and five arrays.

    `layout` says where it lies in memory, as integers, which compiled code may keep: (number of workers, address of the
    decoders' pointers, address and elements per worker of each array ...).
    """

    def __init__(self, num_workers: int, stored: Stored, resolution: int) -> None:
        self.resolution = resolution
        self._handles = turbojpeg.DecoderHandles(num_workers)
        sizes = scratch_sizes(stored, resolution)
        types = (np.uint8, np.uint8, np.uint8, np.uint8, np.int32)
        self._arrays: list[np.ndarray[Any, Any]] = [
            np.empty((num_workers, size), kind) for size, kind in zip(sizes, types, strict=True)
        ]
        places = [(array.ctypes.data, array.shape[1]) for array in self._arrays]
        pointers = self._handles.pointers.ctypes.data
        self.layout: tuple[int, ...] = (num_workers, pointers, *(number for place in places for number in place))


def scratch_sizes(stored: Stored, resolution: int) -> tuple[int, int, int, int, int]:
    """Elements of a worker's arrays: uint8 pixels, JPEG of the tiles, and scratch of the decoder; uint8 rows and int32 of
    `kernels.resample`."""
    rows, integers = resample.scratch_sizes(stored.max_height, stored.max_width, resolution)
    decoder = decode_scratch.scratch_bytes(stored.max_width, stored.max_jpeg_bytes) if stored.max_jpeg_bytes else 0
    sizes = (3 * stored.max_jpeg_pixels, stored.max_jpeg_bytes, decoder, rows, integers)
    # each worker's part begins with a line of the cache
    pixels, tiles_bytes, decoder, rows, integers = (-(-size // 64) * 64 for size in sizes)
    return pixels, tiles_bytes, decoder, rows, integers


def scratch_bytes(stored: Stored, resolution: int) -> int:
    """Bytes of a worker's arrays."""
    *byte_sizes, integers = scratch_sizes(stored, resolution)
    return sum(byte_sizes) + np.dtype(np.int32).itemsize * integers


@compiled(parallel=True)
def decode_batch(ids, metadata, locations, places, plans, kind, max_denominator, layout, views, statuses):  # type: ignore[no-untyped-def]
    """Makes the views of a batch, each image by one worker.

    ids (B,) uint64 view ids; metadata (N,): FFCV's of all images; locations (B, 2) int64: address and number of bytes of each
    stored image; places: of a `Stored`; plans (B, 9) int64, see `kernels.crop`; kind: resampling filter; max_denominator: 1,
    or up to 8 for DCT-scaled decoding where crops are that much larger than views; layout: of a `Scratch`. Written: views
    (B, h, w, 3) uint8, zero where an image does not decode, and statuses (B,) int32.
    """
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
            field = metadata[rng.sample_of(ids[first])]
            _decode_group(
                rng.sample_of(ids[first]), field["mode"], np.int64(field["height"]), np.int64(field["width"]),
                locations[first], places, plans[first:end], kind, max_denominator, np.int64(worker), layout,
                views[first:end], statuses[first:end],
            )  # fmt: skip
            group = take(counter.ctypes.data)


@compiled()
def _decode_group(sample, mode, height, width, location, places, plans, kind, max_denominator, worker, layout, views, statuses):  # type: ignore[no-untyped-def]
    """The views of one image."""
    count = len(plans)
    stored = carray(void_pointer(location[0]), (location[1],), np.uint8)
    if mode != JPEG_MODE:
        whole = (np.int64(0), np.int64(0), height, width)
        for i in range(count):
            statuses[i] = turbojpeg.OK if stored.size == height * width * 3 else OTHER_LENGTH
            _show(stored, whole, np.int64(1), plans[i], kind, worker, layout, views[i], np.int64(statuses[i]))
        return
    tiling = tiles_of(sample, width, height, places)
    grid = tiling[0]
    blocks, needs = np.zeros((count, 4), np.int64), np.zeros((count, 4), np.int64)
    # each view's own, and views that are scaled in decoding apart: what a view shows must not depend on other views
    denominators = np.empty(count, np.int64)
    cluster = np.arange(count)
    for i in range(count):
        denominators[i] = _denominator(plans[i], max_denominator)
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
            status, window = _decode_part(stored, height, width, tiling, block, need, denominators[i], worker, layout)
            for j in range(i, count):
                if cluster[j] == i:
                    own_status, own_window = status, window
                    if status != turbojpeg.OK and grid[0] > 0:  # damage where this view does not look is not this view's
                        block, need = _four(own_blocks[j]), _four(own_needs[j])
                        own_status, own_window = _decode_part(
                            stored, height, width, tiling, block, need, denominators[j], worker, layout
                        )
                    statuses[j] = own_status
                    _show(pixels, own_window, denominators[j], plans[j], kind, worker, layout, views[j], own_status)


@compiled()
def tiles_of(sample, width, height, places):  # type: ignore[no-untyped-def]
    """(grid, bytes of the header, lengths of the tiles as bytes, bytes of each) of a stored JPEG."""
    rows_at, num_rows, lengths_at, num_lengths = places
    nothing = np.empty(0, np.uint8)
    if rows_at == 0:
        return tiles.NO_TILES, np.int64(0), nothing, np.int64(0)
    row = carray(void_pointer(rows_at), (num_rows,), _ROW_TYPE)[sample]
    num_tiles, length_bytes = np.int64(row["num_tiles"]), np.int64(row["length_bytes"])
    mcu_width, mcu_height = np.int64(row["mcu_width"]), np.int64(row["mcu_height"])
    grid = tiles.grid_of(np.int64(row["interval"]), num_tiles, mcu_width, mcu_height, width, height)
    start, size = np.int64(row["lengths_start"]), num_tiles * length_bytes
    if grid[0] == 0 or start + size > num_lengths:
        return tiles.NO_TILES, np.int64(0), nothing, np.int64(0)
    lengths = carray(void_pointer(lengths_at + start), (size,), np.uint8)
    return grid, np.int64(row["header_bytes"]), lengths, length_bytes


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


@compiled()
def _decode_part(stored, height, width, tiling, block, need, denominator, worker, layout):  # type: ignore[no-untyped-def]
    """(status, (first row, first column, height, width)) of the part of a JPEG that is then in the worker's pixels: of a
    block of its tiles, in which the needed pixels are right, or of all."""
    grid, header_bytes, lengths, length_bytes = tiling
    pixels = carray(void_pointer(layout[2] + worker * layout[3]), (layout[3],), np.uint8)
    window = (np.int64(0), np.int64(0), height, width)
    encoded = stored
    if grid[0] > 0:
        window = tiles.pixels_of(grid, block)
        if denominator == 1:
            scratch = carray(void_pointer(layout[6] + worker * layout[7]), (layout[7],), np.uint8)
            status = decode_window.decode_window(
                stored, header_bytes, lengths, length_bytes, grid, block, need, scratch, pixels
            )
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


def reason(status: int, stored: np.ndarray, mode: int, height: int, width: int) -> str:
    """Why an image did not decode, in words, from the status and the stored bytes (n,) uint8."""
    if mode != JPEG_MODE:
        return f"{stored.size} bytes are stored, {height * width * 3} are wanted for {width}x{height} pixels"
    return turbojpeg.reason(status, stored, height, width) or "its tiles are not those that the beton's index speaks of"
