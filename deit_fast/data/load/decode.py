"""Decodes views from a beton: the metadata that decoding needs, and its working memory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deit_fast.data.format.beton import JPEG_MODE, Beton, open_beton
from deit_fast.data.format.index import Index, read_index
from deit_fast.kernels import decode, resample, rng
from deit_fast.kernels.addresses import HoldsAddresses
from deit_fast.kernels.jpeg import decode_scratch, turbojpeg

MAX_DENOMINATOR = 8  # of DCT-scaled decoding
_COLUMNS_OF_INDEX = {
    decode.LENGTHS_START: "lengths_start",
    decode.NUM_TILES: "num_tiles",
    decode.LENGTH_BYTES: "length_bytes",
    decode.INTERVAL: "interval",
    decode.HEADER_BYTES: "header_bytes",
    decode.MCU_WIDTH: "mcu_width",
    decode.MCU_HEIGHT: "mcu_height",
}


class Largest(NamedTuple):
    """Maxima that decide the memory for decoding: over all images, and for JPEGs pixels and bytes."""

    height: int
    width: int
    jpeg_pixels: int
    jpeg_bytes: int


def largest_of(beton: Beton) -> Largest:
    """The Largest of a beton's images."""
    is_jpeg = beton.modes == JPEG_MODE
    pixels = beton.heights.astype(np.int64) * beton.widths
    most_pixels, most_bytes = int(pixels[is_jpeg].max(initial=0)), int(beton.sizes[is_jpeg].max(initial=0))
    return Largest(int(beton.heights.max()), int(beton.widths.max()), most_pixels, most_bytes)


@dataclass(frozen=True, eq=False)
class Images:
    """The stored images of a beton: the metadata of each, and the file, mapped into memory. index: None if it has none."""

    beton: Beton
    index: Index | None
    largest: Largest
    memory: np.memmap

    def __reduce__(self) -> tuple[object, ...]:
        """In another process the file is mapped anew."""
        return images_of, (self.beton, self.index is not None)

    def locate(self, ids: NDArray[np.uint64], stored: NDArray[np.int64]) -> None:
        """Fills stored (B, STORED_LENGTH) int64, see `kernels.decode`, with the images of view ids (B,)."""
        samples, beton = rng.sample_of(ids).astype(np.int64), self.beton
        stored[:, decode.START], stored[:, decode.SIZE] = beton.offsets[samples], beton.sizes[samples]
        stored[:, decode.MODE] = beton.modes[samples]
        stored[:, decode.HEIGHT], stored[:, decode.WIDTH] = beton.heights[samples], beton.widths[samples]
        if self.index is None:
            stored[:, decode.LENGTHS_START :] = 0
            return
        rows = self.index.rows[samples]
        for column, name in _COLUMNS_OF_INDEX.items():
            stored[:, column] = rows[name]

    @property
    def lengths(self) -> tuple[int, int]:
        """Address and number of bytes of all tiles' lengths, for compiled code; zeros without an index."""
        return (0, 0) if self.index is None else (self.index.lengths.ctypes.data, len(self.index.lengths))


def images_of(beton: Beton, has_index: bool = True) -> Images:
    """The images of a beton; has_index: use its index, if it has one."""
    memory = np.memmap(beton.path, np.uint8, "r")
    return Images(beton, read_index(beton) if has_index else None, largest_of(beton), memory)


def open_images(path: str | Path) -> Images:
    """The images of the beton at a path."""
    return images_of(open_beton(path))


def scratch_sizes(largest: Largest, resolution: int) -> tuple[int, int, int, int, int]:
    """Elements of a worker's arrays: uint8 pixels, JPEG of the tiles, and scratch of the decoder; uint8 rows and int32 of
    `kernels.resample`."""
    rows, integers = resample.scratch_sizes(largest.height, largest.width, resolution)
    decoder = decode_scratch.scratch_bytes(largest.width, largest.jpeg_bytes) if largest.jpeg_bytes else 0
    sizes = (3 * largest.jpeg_pixels, largest.jpeg_bytes, decoder, rows, integers)
    # each worker's part begins with a line of the cache
    pixels, tiles_bytes, decoder, rows, integers = (-(-size // 64) * 64 for size in sizes)
    return pixels, tiles_bytes, decoder, rows, integers


def scratch_bytes(largest: Largest, resolution: int) -> int:
    """Bytes of a worker's arrays."""
    *byte_sizes, integers = scratch_sizes(largest, resolution)
    return sum(byte_sizes) + np.dtype(np.int32).itemsize * integers


class Scratch(HoldsAddresses):
    """Each worker's tools for views of up to a resolution: a TurboJPEG decoder and five arrays.

    `layout` has their addresses, for `kernels.decode`, as integers, which compiled code may keep.
    """

    def __init__(self, num_workers: int, largest: Largest, resolution: int) -> None:
        self._handles = turbojpeg.DecoderHandles(num_workers)
        sizes = scratch_sizes(largest, resolution)
        types = (np.uint8, np.uint8, np.uint8, np.uint8, np.int32)
        self._arrays: list[np.ndarray] = [np.empty((num_workers, size), kind) for size, kind in zip(sizes, types, strict=True)]
        places = [(array.ctypes.data, array.shape[1]) for array in self._arrays]
        pointers = self._handles.pointers.ctypes.data
        self.layout: tuple[int, ...] = (num_workers, pointers, *(number for place in places for number in place))

    @property
    def num_bytes(self) -> int:
        """Bytes of all arrays."""
        return sum(array.nbytes for array in self._arrays)


class ViewDecoder(HoldsAddresses):
    """Makes views of up to a resolution from stored images, on num_workers threads.

    kind: filter of `kernels.resample`. With dct_scaling, crops that are at least twice a view's size are decoded smaller.
    """

    def __init__(self, images: Images, resolution: int, kind: int, *, dct_scaling: bool = False, num_workers: int) -> None:
        self._images = images
        self._kind = kind
        self._max_denominator = MAX_DENOMINATOR if dct_scaling else 1
        self.scratch = Scratch(num_workers, images.largest, resolution)

    def decode(
        self,
        ids: NDArray[np.uint64],
        stored: NDArray[np.int64],
        plans: NDArray[np.int64],
        views: NDArray[np.uint8],
        statuses: NDArray[np.int32],
    ) -> None:
        """Fills views (B, h, w, 3) with the crops of plans (B, PLAN_LENGTH) from the images of `Images.locate`, and statuses
        (B,) with 0 or the code of a decoding error; such a view is zero."""
        where = (self._images.memory.ctypes.data, self._images.lengths, plans, self._kind, self._max_denominator)
        decode.decode_batch(ids, stored, *where, self.scratch.layout, views, statuses)

    def failures(
        self, ids: NDArray[np.uint64], stored: NDArray[np.int64], statuses: NDArray[np.int32]
    ) -> list[tuple[int, str]]:
        """(position in the batch, line that names the sample, its offset and the reason) of each image that did not decode."""
        found = []
        for position in np.flatnonzero(statuses).tolist():
            start, size, mode, height, width = stored[position, :5].tolist()
            why = reason(int(statuses[position]), np.array(self._images.memory[start : start + size]), mode, height, width)
            sample = int(rng.sample_of(ids[position]))
            found.append((position, f"sample {sample} (offset {start}, {size} bytes) does not decode: {why}"))
        return found


def reason(status: int, stored: NDArray[np.uint8], mode: int, height: int, width: int) -> str:
    """Describes why an image did not decode, from the status and the stored bytes (n,) uint8."""
    if mode != JPEG_MODE:
        return f"{stored.size} bytes are stored, {height * width * 3} are wanted for {width}x{height} pixels"
    return turbojpeg.reason(status, stored, height, width) or "its tiles are not those that the beton's index speaks of"
