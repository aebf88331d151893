"""Takes a whole JPEG of any encoder, gives its pixels, bit for bit those of libjpeg-turbo, in less time.

As `decode_window`, but without tiles: one row of MCUs after another becomes samples and pixels.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.jpeg import decode_tables as head
from deit_fast.kernels.jpeg import planes
from deit_fast.kernels.jpeg.bitstream import OK as WHOLE
from deit_fast.kernels.jpeg.bitstream import unstuff
from deit_fast.kernels.jpeg.decode_blocks import decode_on
from deit_fast.kernels.jpeg.decode_scratch import (
    FACTS,
    PLAN,
    PLANES,
    STREAMS,
    TOO_LARGE,
    bits_place,
    bytes_needed,
    coefficients_place,
    part,
    scratch_bytes,
)
from deit_fast.kernels.jpeg.decode_window import make_tables
from deit_fast.kernels.jpeg.segments import START_OF_SCAN, next_segment

OK = 0
UNSUPPORTED = 1  # for TurboJPEG: damaged, another kind, or something on which libjpeg would remark

_U = np.uint64  # Numba makes floats of sums of signed and unsigned integers


@compiled()
def _header_bytes(encoded):  # type: ignore[no-untyped-def]
    """Where the data of the first scan begin; -1 without one."""
    marker, _, end = next_segment(encoded, np.int64(2), encoded.size)
    while marker >= 0:
        if marker == START_OF_SCAN:
            return end
        marker, _, end = next_segment(encoded, end, encoded.size)
    return np.int64(-1)


@compiled()
def _prepare(encoded, header_bytes, height, width, scratch, pixels):  # type: ignore[no-untyped-def]
    """Whether a JPEG with that header is decoded here; fills scratch with what that needs."""
    if header_bytes < 0 or scratch.size < PLANES:
        return False
    facts = part(scratch, FACTS, (head.NUM_FACTS,), np.int64)
    if not head.read_facts(encoded, header_bytes, facts) or facts[head.INTERVAL] != 0:
        return False
    if facts[head.WIDTH] != width or facts[head.HEIGHT] != height or width < 5:
        return False  # libjpeg does not interpolate chroma of one or two columns
    if pixels.size < 3 * height * width or scratch.size < bytes_needed(np.int64(width), np.int64(encoded.size)):
        return False
    for component in range(facts[head.NUM_COMPONENTS]):
        for table in facts[head.COMPONENTS + 3 * component + 1 : head.COMPONENTS + 3 * component + 3]:
            if not head.is_sound_table(encoded, facts[head.DEFINITIONS + table], table < 4):
                return False
    make_tables(encoded, facts, scratch)
    planes.find_ranges(facts, (np.int64(0), np.int64(height), np.int64(0), np.int64(width)), height, width, scratch)
    return True


@compiled()
def decode_image(encoded, height, width, scratch, pixels):  # type: ignore[no-untyped-def]
    """OK or UNSUPPORTED: decodes a JPEG of one scan without restart markers.

    encoded (n,) uint8; height, width: what its header must say; scratch (>= decode_scratch.scratch_bytes(),) uint8, its
    address a multiple of 8. Written: pixels (>= height * width * 3,) uint8, RGB rows. Nothing outside the arrays is read or
    written, whatever they hold.
    """
    header_bytes = _header_bytes(encoded)
    if not _prepare(encoded, header_bytes, height, width, scratch, pixels):
        return UNSUPPORTED
    facts = part(scratch, FACTS, (head.NUM_FACTS,), np.int64)
    place = bits_place(np.int64(width), np.int64(width))
    bits = part(scratch, place, (scratch.size - place,), np.uint8)
    status, num_bytes, _, _ = unstuff(encoded, header_bytes, bits, np.empty(0, np.int64))
    if status != WHOLE:
        return UNSUPPORTED
    is_sound = _decode_rows(height, width, num_bytes, facts, scratch, pixels)
    return OK if is_sound and not part(scratch, TOO_LARGE, (16,), np.int16).any() else UNSUPPORTED


@compiled()
def _decode_rows(height, width, num_bytes, facts, scratch, pixels):  # type: ignore[no-untyped-def]
    """Whether the bits are those of all MCUs; writes the pixels."""
    mcu_width, mcu_height = 8 * facts[head.HORIZONTAL], 8 * facts[head.VERTICAL]
    mcus_per_row = (width + mcu_width - 1) // mcu_width
    num_blocks = facts[head.HORIZONTAL] * facts[head.VERTICAL] + facts[head.NUM_COMPONENTS] - 1
    wanted = np.int64(0), np.int64(height), np.int64(0), np.int64(width)
    stream, stream_at = part(scratch, STREAMS, (8,), np.uint64), _U(scratch.ctypes.data + STREAMS)
    plan = _U(scratch.ctypes.data + PLAN)
    end_plan = plan + _U(32 * num_blocks)
    coefficients_at = scratch.ctypes.data + coefficients_place(width)
    num_coefficients = mcus_per_row * num_blocks * 64
    coefficients = part(scratch, coefficients_place(width), (num_coefficients,), np.int16)
    bits_at = scratch.ctypes.data + bits_place(width, width)
    stream[:] = 0
    stream[1] = 8 * (bits_at + num_bytes)
    stream[2], stream[3] = coefficients_at, coefficients_at + 2 * num_coefficients
    stream[4] = 8 * bits_at
    done = np.int64(0)
    for row in range((height + mcu_height - 1) // mcu_height):
        coefficients[:] = 0
        if not decode_on(stream_at, plan, end_plan) or stream[4] > stream[1]:
            return False
        planes.transform_tile(row, np.int64(0), mcus_per_row, coefficients_at, facts, width, scratch)
        done = planes.show_rows(row, done, wanted, height, width, facts, scratch, pixels)
    return stream[1] - stream[4] < _U(8)


@compiled()
def show_coefficients(header, coefficients, height, width, scratch, pixels):  # type: ignore[no-untyped-def]
    """`decode_image` of coefficients (blocks, 64) int16, row by row, in the order of a scan; header (n,) uint8: a JPEG's up to
    its scan, without restart markers."""
    if not _prepare(header, np.int64(header.size), height, width, scratch, pixels):
        return UNSUPPORTED
    facts = part(scratch, FACTS, (head.NUM_FACTS,), np.int64)
    mcus_per_row = (width + 8 * facts[head.HORIZONTAL] - 1) // (8 * facts[head.HORIZONTAL])
    num_rows = (height + 8 * facts[head.VERTICAL] - 1) // (8 * facts[head.VERTICAL])
    per_row = mcus_per_row * (facts[head.HORIZONTAL] * facts[head.VERTICAL] + facts[head.NUM_COMPONENTS] - 1)
    if coefficients.shape[0] != num_rows * per_row or coefficients.shape[1] != 64:
        return UNSUPPORTED
    wanted, done = (np.int64(0), np.int64(height), np.int64(0), np.int64(width)), np.int64(0)
    for row in range(num_rows):
        address = coefficients.ctypes.data + 128 * row * per_row
        planes.transform_tile(row, np.int64(0), mcus_per_row, address, facts, width, scratch)
        done = planes.show_rows(row, done, wanted, height, width, facts, scratch, pixels)
    return UNSUPPORTED if part(scratch, TOO_LARGE, (16,), np.int16).any() else OK


class ImageDecoder:
    """Decodes one JPEG after another for Python code, in memory that it keeps."""

    def __init__(self) -> None:
        self._scratch = np.empty(0, np.uint64)
        self._pixels = np.empty(0, np.uint8)

    def decode(self, encoded: bytes, height: int, width: int) -> NDArray[np.uint8] | None:
        """Pixels (height, width, 3) uint8, valid until the next call; None for what is TurboJPEG's."""
        memory = self._memory(height, width, len(encoded))
        status = decode_image(np.frombuffer(encoded, np.uint8), height, width, *memory)
        return self._shown(status, height, width)

    def show(self, header: bytes, coefficients: NDArray[np.int16], height: int, width: int) -> NDArray[np.uint8] | None:
        """`decode` of coefficients, see `show_coefficients`."""
        memory = self._memory(height, width, len(header))
        status = show_coefficients(np.frombuffer(header, np.uint8), coefficients, height, width, *memory)
        return self._shown(status, height, width)

    def _memory(self, height: int, width: int, num_bytes: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        num_words = scratch_bytes(width, num_bytes) // 8
        if self._scratch.size < num_words:
            self._scratch = np.empty(num_words + num_words // 4, np.uint64)
        if self._pixels.size < 3 * height * width:
            self._pixels = np.empty(3 * height * width, np.uint8)
        return self._scratch.view(np.uint8), self._pixels

    def _shown(self, status: int, height: int, width: int) -> NDArray[np.uint8] | None:
        return self._pixels[: 3 * height * width].reshape(height, width, 3) if status == OK else None
