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
def decode_image(encoded, height, width, scratch, pixels):  # type: ignore[no-untyped-def]
    """OK or UNSUPPORTED: decodes a JPEG of one scan without restart markers.

    encoded (n,) uint8; height, width: what its header must say; scratch (>= decode_scratch.scratch_bytes(),) uint8, its
    address a multiple of 8. Written: pixels (>= height * width * 3,) uint8, RGB rows. Nothing outside the arrays is read or
    written, whatever they hold.
    """
    if scratch.size < PLANES or encoded.size < 4:
        return UNSUPPORTED
    facts = part(scratch, FACTS, (head.NUM_FACTS,), np.int64)
    header_bytes = _header_bytes(encoded)
    if header_bytes < 0 or not head.read_facts(encoded, header_bytes, facts) or facts[head.INTERVAL] != 0:
        return UNSUPPORTED
    if facts[head.WIDTH] != width or facts[head.HEIGHT] != height or width < 5:
        return UNSUPPORTED  # libjpeg does not interpolate chroma of one or two columns
    if pixels.size < 3 * height * width or scratch.size < bytes_needed(np.int64(width), np.int64(encoded.size)):
        return UNSUPPORTED
    for component in range(facts[head.NUM_COMPONENTS]):
        for table in facts[head.COMPONENTS + 3 * component + 1 : head.COMPONENTS + 3 * component + 3]:
            if not head.is_sound_table(encoded, facts[head.DEFINITIONS + table], table < 4):
                return UNSUPPORTED
    make_tables(encoded, facts, scratch)
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
    planes.find_ranges(facts, wanted, height, width, scratch)
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


class ImageDecoder:
    """Decodes one JPEG after another for Python code, in memory that it keeps."""

    def __init__(self) -> None:
        self._scratch = np.empty(0, np.uint64)
        self._pixels = np.empty(0, np.uint8)

    def decode(self, encoded: bytes, height: int, width: int) -> NDArray[np.uint8] | None:
        """Pixels (height, width, 3) uint8, valid until the next call; None for what is TurboJPEG's."""
        num_words = scratch_bytes(width, len(encoded)) // 8
        if self._scratch.size < num_words:
            self._scratch = np.empty(num_words + num_words // 4, np.uint64)
        if self._pixels.size < 3 * height * width:
            self._pixels = np.empty(3 * height * width, np.uint8)
        source = np.frombuffer(encoded, np.uint8)
        if decode_image(source, height, width, self._scratch.view(np.uint8), self._pixels) != OK:
            return None
        return self._pixels[: 3 * height * width].reshape(height, width, 3)
