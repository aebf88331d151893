"""Takes the stored bytes of images and a plan for each, gives the views that the plans show.

JPEG bytes go through TurboJPEG with its accurate DCT and fancy upsampling, so that pixels equal Pillow's; its return codes
are kept. The library's functions are called by name from compiled code, which can therefore be cached on disk.
"""

from __future__ import annotations

import ctypes
import ctypes.util

import llvmlite.binding
import numpy as np
from numba import carray, get_thread_id, prange, types

from deit_fast.augment import resample, rng
from deit_fast.augment.compiled import compiled
from deit_fast.augment.turn import void_pointer

MODE_JPEG = 0  # FFCV's RGBImageField: metadata field `mode`

OK = 0
UNREADABLE_HEADER = 1
OTHER_SIZE = 2
UNDECODABLE = 3
OTHER_LENGTH = 4

_RGB = 0  # TJPF_RGB
_ACCURATE_DCT = 4096  # TJFLAG_ACCURATEDCT


def _load_turbojpeg() -> ctypes.CDLL:
    name = ctypes.util.find_library("turbojpeg")
    if name is None:
        raise ImportError("libturbojpeg is not installed (Debian: libturbojpeg0-dev; conda: libjpeg-turbo)")
    library = ctypes.CDLL(name)
    library.tjInitDecompress.restype = ctypes.c_void_p
    library.tjDestroy.argtypes = [ctypes.c_void_p]
    library.tjGetErrorStr2.argtypes = [ctypes.c_void_p]
    library.tjGetErrorStr2.restype = ctypes.c_char_p
    # makes its symbols known to the linker of Numba's compiled code
    llvmlite.binding.load_library_permanently(name)
    return library


_turbojpeg = _load_turbojpeg()

# pointers travel as integers of their size
_read_header = types.ExternalFunction(
    "tjDecompressHeader3",
    types.int32(types.uintp, types.uintp, types.uintp, types.uintp, types.uintp, types.uintp, types.uintp),
)
_decompress = types.ExternalFunction(
    "tjDecompress2",
    types.int32(
        types.uintp, types.uintp, types.uintp, types.uintp, types.int32, types.int32, types.int32, types.int32, types.int32
    ),
)


class DecoderHandles:
    """One TurboJPEG decompressor for each thread; `pointers` (num_threads,) uint64. `close` frees them."""

    def __init__(self, num_threads: int) -> None:
        self.pointers = np.array([_turbojpeg.tjInitDecompress() or 0 for _ in range(num_threads)], np.uint64)
        assert self.pointers.all()

    def close(self) -> None:
        for pointer in self.pointers:
            _turbojpeg.tjDestroy(int(pointer))
        self.pointers = self.pointers[:0]

    def __del__(self) -> None:
        self.close()


@compiled()
def decode_jpeg(handle, encoded, height, width, pixels):  # type: ignore[no-untyped-def]
    """Status of decoding JPEG bytes (n,) uint8 into pixels (>= height * width * 3,) uint8 as RGB rows.

    OK only if the header says height x width and TurboJPEG decoded to the end without error or warning; else one of the
    reasons above, and the pixels are not to be used. Nothing outside the two arrays is read or written.
    """
    header = np.zeros(4, np.int32)
    address = header.ctypes.data
    source = encoded.ctypes.data
    if _read_header(handle, source, encoded.size, address, address + 4, address + 8, address + 12) != 0:
        return UNREADABLE_HEADER
    if header[0] != width or header[1] != height:
        return OTHER_SIZE
    if _decompress(handle, source, encoded.size, pixels.ctypes.data, width, 3 * width, height, _RGB, _ACCURATE_DCT) != 0:
        return UNDECODABLE
    return OK


@compiled()
def is_decodable(handle, encoded, height, width):  # type: ignore[no-untyped-def]
    """Whether TurboJPEG takes the header of JPEG bytes (n,) uint8, and finds height x width pixels in it."""
    header = np.zeros(4, np.int32)
    address = header.ctypes.data
    status = _read_header(handle, encoded.ctypes.data, encoded.size, address, address + 4, address + 8, address + 12)
    return status == 0 and header[0] == width and header[1] == height


class JpegDecoder:
    """Decodes one JPEG after another for Python code, in memory that it keeps."""

    def __init__(self) -> None:
        self._handles = DecoderHandles(1)
        self._pixels = np.empty(0, np.uint8)

    def decode(self, encoded: bytes, height: int, width: int) -> tuple[int, np.ndarray]:
        """Status as decode_jpeg gives it, and pixels (height, width, 3) uint8, valid if OK, until the next call."""
        if self._pixels.size < 3 * height * width:
            self._pixels = np.empty(3 * height * width, np.uint8)
        source = np.frombuffer(encoded, np.uint8)
        status = int(decode_jpeg(self._handles.pointers[0], source, height, width, self._pixels))
        if status != OK:
            self._renew()
        return status, self._pixels[: 3 * height * width].reshape(height, width, 3)

    def takes(self, encoded: bytes, height: int, width: int) -> bool:
        """Whether the header is one of that size that TurboJPEG decodes."""
        is_taken = bool(is_decodable(self._handles.pointers[0], np.frombuffer(encoded, np.uint8), height, width))
        if not is_taken:
            self._renew()
        return is_taken

    def _renew(self) -> None:
        """A decoder that has met a broken header stays in the middle of it, and would refuse all that comes."""
        self._handles.close()
        self._handles = DecoderHandles(1)

    def close(self) -> None:
        self._handles.close()


class Scratch:
    """What each thread needs to make views of up to a resolution from a beton's images: a decoder and four arrays.

    heights, widths (N,): of all images. `layout` says where it lies in memory, as integers, which compiled code may keep:
    ((address of the decoders' pointers, address and elements per thread of each array ...)).
    """

    def __init__(self, num_threads: int, heights: np.ndarray, widths: np.ndarray, resolution: int) -> None:
        max_pixels = int((heights.astype(np.int64) * widths).max())
        rows, integers, accumulator = resample.scratch_sizes(int(heights.max()), int(widths.max()), resolution)
        self.resolution = resolution
        self._handles = DecoderHandles(num_threads)
        self._arrays = (
            np.empty((num_threads, 3 * max_pixels), np.uint8),
            np.empty((num_threads, rows), np.uint8),
            np.empty((num_threads, integers), np.int32),
            np.empty((num_threads, accumulator), np.int32),
        )
        places = [(array.ctypes.data, array.shape[1]) for array in self._arrays]
        self.layout: tuple[int, ...] = (
            num_threads,
            self._handles.pointers.ctypes.data,
            *(number for place in places for number in place),
        )


@compiled(parallel=True)
def decode_batch(ids, metadata, locations, plans, kind, layout, views, statuses):  # type: ignore[no-untyped-def]
    """Makes the views of a batch, each image by one thread.

    ids (B,) uint64 view ids; metadata (N,): FFCV's of all images; locations (B, 2) int64: address and number of bytes of each
    stored image; plans (B, 9) int64, see `augment.crop`; kind: resampling filter; layout: of a `Scratch`. Written: views
    (B, h, w, 3) uint8, zero where an image does not decode, and statuses (B,) int32.
    """
    num_threads, handles_at, pixels_at, num_pixels, rows_at, num_rows = layout[:6]
    integers_at, num_integers, accumulators_at, num_accumulators = layout[6:]
    handles = carray(void_pointer(handles_at), (num_threads,), np.uint64)
    pixels = carray(void_pointer(pixels_at), (num_threads, num_pixels), np.uint8)
    rows = carray(void_pointer(rows_at), (num_threads, num_rows), np.uint8)
    integers = carray(void_pointer(integers_at), (num_threads, num_integers), np.int32)
    accumulators = carray(void_pointer(accumulators_at), (num_threads, num_accumulators), np.int32)
    for i in prange(len(ids)):
        thread = get_thread_id()
        field = metadata[rng.sample_of(ids[i])]
        height, width = np.int64(field["height"]), np.int64(field["width"])
        stored = carray(void_pointer(locations[i, 0]), (locations[i, 1],), np.uint8)
        scratch = (pixels[thread], rows[thread], integers[thread], accumulators[thread])
        statuses[i] = _decode_view(field["mode"], stored, height, width, plans[i], kind, handles[thread], scratch, views[i])


@compiled()
def _decode_view(mode, stored, height, width, plan, kind, handle, scratch, view):  # type: ignore[no-untyped-def]
    pixels, rows, integers, accumulator = scratch
    size = height * width * 3
    if mode == MODE_JPEG:
        status = decode_jpeg(handle, stored, height, width, pixels)
        image = pixels[:size].reshape(height, width, 3)
    else:
        status = OK if stored.size == size else OTHER_LENGTH
        image = (stored if status == OK else pixels)[:size].reshape(height, width, 3)
    if status == OK:
        box = (plan[0], plan[1], plan[2], plan[3], plan[4], plan[5], plan[6], plan[7])
        resample.resample(image, box, kind, plan[8] != 0, rows, integers, accumulator, view)
    else:
        view[:] = 0
    return status


def reason(status: int, stored: np.ndarray, height: int, width: int) -> str:
    """Why an image did not decode, in words, from the status and the stored bytes (n,) uint8."""
    if status == OTHER_LENGTH:
        return f"{stored.size} bytes are stored, {height * width * 3} are wanted for {width}x{height} pixels"
    if status == OTHER_SIZE:
        return f"the JPEG's own size is not {width}x{height}"
    handles = DecoderHandles(1)
    decode_jpeg(handles.pointers[0], stored, height, width, np.empty(height * width * 3, np.uint8))
    text: bytes = _turbojpeg.tjGetErrorStr2(int(handles.pointers[0]))
    return text.decode(errors="replace")
