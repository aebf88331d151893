"""Takes the bytes of a JPEG, gives its pixels, or the reason why it has none, from TurboJPEG.

It is called with its accurate DCT and fancy upsampling, so that pixels equal Pillow's; its return codes are kept. The library's
functions are called by name from compiled code, which can therefore be cached on disk.
"""

from __future__ import annotations

import ctypes
import ctypes.util

import llvmlite.binding
import numpy as np
from numba import types

from deit_fast.kernels.addresses import HoldsAddresses
from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg.segments import START_OF_SCAN, next_segment

OK = 0
UNREADABLE_HEADER = 1
OTHER_SIZE = 2
UNDECODABLE = 3

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


turbojpeg = _load_turbojpeg()

# pointers travel as integers of their size
_read_header = types.ExternalFunction(
    "tjDecompressHeader3",
    types.int32(types.uintp, types.uintp, types.uintp, types.uintp, types.uintp, types.uintp, types.uintp),
)
_new_decoder = types.ExternalFunction("tjInitDecompress", types.uintp())
_free_decoder = types.ExternalFunction("tjDestroy", types.int32(types.uintp))
_decompress = types.ExternalFunction(
    "tjDecompress2",
    types.int32(
        types.uintp, types.uintp, types.uintp, types.uintp, types.int32, types.int32, types.int32, types.int32, types.int32
    ),
)


class DecoderHandles(HoldsAddresses):
    """One TurboJPEG decompressor for each thread; `pointers` (num_threads,) uint64. `close` frees them."""

    def __init__(self, num_threads: int) -> None:
        self._destroy = turbojpeg.tjDestroy  # when the interpreter ends, modules may be empty before this is
        self.pointers = np.array([turbojpeg.tjInitDecompress() or 0 for _ in range(num_threads)], np.uint64)
        assert self.pointers.all()

    def renew(self) -> None:
        """Put new decoders in the place of ones that met a broken header."""
        self.pointers[:] = [renewed(pointer) for pointer in self.pointers]

    def close(self) -> None:
        for pointer in self.pointers:
            self._destroy(int(pointer))
        self.pointers = self.pointers[:0]

    def __del__(self) -> None:
        self.close()


@compiled()
def renewed(handle):  # type: ignore[no-untyped-def]
    """A new decoder in place of one that met a broken header: it stays in the middle of that, and would refuse all to come."""
    _free_decoder(handle)
    return _new_decoder()


@compiled()
def is_self_contained(encoded):  # type: ignore[no-untyped-def]
    """Whether a JPEG is of one scan and defines all tables before it.

    Of any other, a decoder would take what it lacks from the image that it decoded before: that is what libjpeg has
    abbreviated JPEGs for.
    """
    quantizations, huffmans = np.int64(0), np.int64(0)
    num_components, wanted_quantizations = np.int64(-1), np.int64(0)
    marker, start, end = next_segment(encoded, np.int64(2), encoded.size)
    while marker >= 0:
        if marker == 0xDB:
            while start < end:
                quantizations |= 1 << (np.int64(encoded[start]) & 15)
                start += 1 + (128 if encoded[start] >= 16 else 64)
        elif marker == 0xC4:
            while start + 17 <= end:
                huffmans |= 1 << (np.int64(encoded[start]) & 31)
                num_symbols = np.int64(0)
                for k in range(1, 17):
                    num_symbols += np.int64(encoded[start + k])
                start += 17 + num_symbols
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if start + 6 > end or start + 6 + 3 * np.int64(encoded[start + 5]) > end or num_components >= 0:
                return False
            num_components = np.int64(encoded[start + 5])
            for k in range(num_components):
                wanted_quantizations |= 1 << (np.int64(encoded[start + 8 + 3 * k]) & 15)
        elif marker == START_OF_SCAN:
            if start >= end or encoded[start] != num_components or start + 1 + 2 * num_components > end:
                return False
            for k in range(num_components):
                tables = np.int64(encoded[start + 2 + 2 * k])
                if not (huffmans >> (tables >> 4 & 15) & 1 and huffmans >> (16 | tables & 15) & 1):
                    return False
            return wanted_quantizations & ~quantizations == 0
        marker, start, end = next_segment(encoded, end, encoded.size)
    return False


@compiled()
def _decode(handle, encoded, height, width, denominator, pixels):  # type: ignore[no-untyped-def]
    header = np.zeros(4, np.int32)
    address = header.ctypes.data
    source = encoded.ctypes.data
    if _read_header(handle, source, encoded.size, address, address + 4, address + 8, address + 12) != 0:
        return UNREADABLE_HEADER
    if header[0] != width or header[1] != height:
        return OTHER_SIZE
    height, width = -(-height // denominator), -(-width // denominator)
    if _decompress(handle, source, encoded.size, pixels.ctypes.data, width, 3 * width, height, _RGB, _ACCURATE_DCT) != 0:
        return UNDECODABLE
    return OK


@compiled()
def decode_scaled(handles, number, encoded, height, width, denominator, pixels):  # type: ignore[no-untyped-def]
    """Status of decoding JPEG bytes (n,) uint8 into pixels (>= h * w * 3,) uint8 as RGB rows, h and w the sides of the JPEG
    over denominator (1, 2, 4 or 8; a DCT of so much fewer coefficients), rounded up.

    handles (m,) uint64: `DecoderHandles.pointers`, of which decoder `number` is used, and renewed where an image could leave
    something to the next. OK only if the header says height x width and TurboJPEG decoded to the end without error or warning;
    else one of the reasons above, and the pixels are not to be used. Nothing outside the arrays is read or written.
    """
    if not is_self_contained(encoded):
        handles[number] = renewed(handles[number])
    status = _decode(handles[number], encoded, height, width, denominator, pixels)
    if status != OK:
        handles[number] = renewed(handles[number])
    return status


@compiled()
def decode_jpeg(handles, encoded, height, width, pixels):  # type: ignore[no-untyped-def]
    """decode_scaled at full size, with the first decoder."""
    return decode_scaled(handles, 0, encoded, height, width, 1, pixels)


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
        status = int(decode_jpeg(self._handles.pointers, source, height, width, self._pixels))
        return status, self._pixels[: 3 * height * width].reshape(height, width, 3)

    def takes(self, encoded: bytes, height: int, width: int) -> bool:
        """Whether the header is one of that size that TurboJPEG decodes."""
        is_taken = bool(is_decodable(self._handles.pointers[0], np.frombuffer(encoded, np.uint8), height, width))
        if not is_taken:
            self._handles.renew()
        return is_taken

    def close(self) -> None:
        self._handles.close()


def reason(status: int, encoded: np.ndarray, height: int, width: int) -> str:
    """Why a JPEG did not decode, in words, from the status and its bytes (n,) uint8; empty if it does decode."""
    if status == OTHER_SIZE:
        return f"the JPEG's own size is not {width}x{height}"
    handles = DecoderHandles(1)
    if _decode(handles.pointers[0], encoded, height, width, 1, np.empty(height * width * 3, np.uint8)) == OK:
        return ""
    text: bytes = turbojpeg.tjGetErrorStr2(int(handles.pointers[0]))
    return text.decode(errors="replace")
