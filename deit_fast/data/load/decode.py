"""Decodes views from betons: the metadata that decoding needs, and its working memory."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from deit_fast.data.format.beton import JPEG_MODE, Beton, open_beton
from deit_fast.data.format.beton_set import BetonSet, set_of
from deit_fast.data.format.index import Index, read_index
from deit_fast.data.format.layout import INDEX_TYPE
from deit_fast.data.format.mapped import map_file
from deit_fast.kernels import decode, resample, rng
from deit_fast.kernels.addresses import HoldsAddresses
from deit_fast.kernels.jpeg import decode_scratch, turbojpeg

MAX_DENOMINATOR = 8  # of DCT-scaled decoding
# What `kernels.decode` takes for a mapped file and for the lengths of all tiles: all memory, from address 0 on. Then a row of
# `stored` holds addresses, and images may lie in any number of files.
ANYWHERE = 0
LENGTHS_ANYWHERE = (0, 1 << 62)
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


def largest_of(beton: Beton | BetonSet) -> Largest:
    """The Largest of a beton's images, or of a set's."""
    is_jpeg = beton.modes == JPEG_MODE
    pixels = beton.heights.astype(np.int64) * beton.widths
    most_pixels, most_bytes = int(pixels[is_jpeg].max(initial=0)), int(beton.sizes[is_jpeg].max(initial=0))
    return Largest(int(beton.heights.max()), int(beton.widths.max()), most_pixels, most_bytes)


@dataclass(frozen=True, eq=False)
class Images:
    """The stored images of a set: the metadata of each, and the files, mapped into memory.

    memories: the bytes (n,) uint8 of each of the set's stretches; indexes: of each, None if it has none. Stretches of one file
    share these.
    """

    beton: BetonSet
    memories: tuple[NDArray[np.uint8], ...]
    indexes: tuple[Index | None, ...]
    largest: Largest

    def __reduce__(self) -> tuple[object, ...]:
        """In another process the files are mapped anew."""
        return images_of, (self.beton, self.has_index)

    @property
    def has_index(self) -> bool:
        """Whether any image has tiles to decode apart."""
        return any(index is not None for index in self.indexes)

    @functools.cached_property
    def rows(self) -> NDArray[np.void] | None:
        """The rows of all samples in their index, (num_samples,) INDEX_TYPE, zero in a file without one; None if all are."""
        if not self.has_index:
            return None
        pairs = zip(self.indexes, self.beton.stretches, strict=True)
        rows = [np.zeros(one.num_samples, INDEX_TYPE) if index is None else index.rows for index, one in pairs]
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    @functools.cached_property
    def _shifts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """For each stretch, the address of the line's first byte if all of the line lay there, and of its tiles' lengths."""
        starts = [stretch.start for stretch in self.beton.stretches]
        addresses = [memory.ctypes.data - start for memory, start in zip(self.memories, starts, strict=True)]
        lengths = [0 if index is None else index.lengths.ctypes.data for index in self.indexes]
        return np.array(addresses, np.int64), np.array(lengths, np.int64)

    def locate(self, ids: NDArray[np.uint64], stored: NDArray[np.int64]) -> None:
        """Fills stored (B, STORED_LENGTH) int64, see `kernels.decode`, with the images of view ids (B,). Images and lengths of
        tiles are given by their addresses, as from ANYWHERE and LENGTHS_ANYWHERE."""
        samples, beton = rng.sample_of(ids).astype(np.int64), self.beton
        stretches = beton.stretches_of(samples)
        addresses, lengths = self._shifts
        stored[:, decode.START] = beton.offsets[samples].astype(np.int64) + addresses[stretches]
        stored[:, decode.SIZE], stored[:, decode.MODE] = beton.sizes[samples], beton.modes[samples]
        stored[:, decode.HEIGHT], stored[:, decode.WIDTH] = beton.heights[samples], beton.widths[samples]
        if self.rows is None:
            stored[:, decode.LENGTHS_START :] = 0
            return
        rows = self.rows[samples]
        for column, name in _COLUMNS_OF_INDEX.items():
            stored[:, column] = rows[name]
        stored[:, decode.LENGTHS_START] += lengths[stretches]

    def stored_bytes(self, sample: int) -> NDArray[np.uint8]:
        """The stored image of a sample (n,) uint8, in the mapped file."""
        stretch, offset = self.beton.where(sample)
        return self.memories[self.beton.stretches.index(stretch)][offset : offset + int(self.beton.sizes[sample])]


def images_of(beton: Beton | BetonSet, has_index: bool = True) -> Images:
    """The images of a beton or a set; has_index: use the index of each file that has one."""
    betons = set_of(beton)
    files: dict[Path, tuple[NDArray[np.uint8], Index | None]] = {}
    for stretch in betons.stretches:
        if stretch.path not in files:
            memory = map_file(stretch.path)
            files[stretch.path] = memory, read_index(stretch, memory) if has_index else None
    found = [files[stretch.path] for stretch in betons.stretches]
    return Images(betons, tuple(memory for memory, _ in found), tuple(index for _, index in found), largest_of(betons))


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
        where = (ANYWHERE, LENGTHS_ANYWHERE, plans, self._kind, self._max_denominator)
        decode.decode_batch(ids, stored, *where, self.scratch.layout, views, statuses)

    def failures(
        self, ids: NDArray[np.uint64], stored: NDArray[np.int64], statuses: NDArray[np.int32]
    ) -> list[tuple[int, str]]:
        """(position in the batch, line that names the sample, its offset and the reason) of each image that did not decode."""
        found = []
        for position in np.flatnonzero(statuses).tolist():
            _, size, mode, height, width = stored[position, :5].tolist()
            sample = int(rng.sample_of(ids[position]))
            why = reason(int(statuses[position]), np.array(self._images.stored_bytes(sample)), mode, height, width)
            what, offset = self._images.beton.described(sample), self._images.beton.where(sample)[1]
            found.append((position, f"{what} (offset {offset}, {size} bytes) does not decode: {why}"))
        return found


def reason(status: int, stored: NDArray[np.uint8], mode: int, height: int, width: int) -> str:
    """Describes why an image did not decode, from the status and the stored bytes (n,) uint8."""
    if mode != JPEG_MODE:
        return f"{stored.size} bytes are stored, {height * width * 3} are wanted for {width}x{height} pixels"
    return turbojpeg.reason(status, stored, height, width) or "its tiles are not those that the beton's index speaks of"
