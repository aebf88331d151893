"""Takes a JPEG of any encoder, gives its pixels or a window of them, bit for bit those of libjpeg-turbo, in less time.

As `decode_window`, but without tiles: one row of MCUs after another is decoded, from the first to the last that the window
depends on, and becomes samples and pixels where these are wanted.
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
    PROGRESS,
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
GOES_ON = 2

# Places in `decode_scratch.PROGRESS`: the image's size; the row of MCUs that is being decoded, the end of those that will be;
# the first row of pixels that is not made; blocks of an MCU; the pixels that are wanted
HEIGHT, WIDTH, ROW, END_ROW, DONE, NUM_BLOCKS, WANTED, NUM_PROGRESS = 0, 1, 2, 3, 4, 5, 6, 10

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
def _prepare(encoded, header_bytes, height, width, wanted, scratch, pixels):  # type: ignore[no-untyped-def]
    """Whether a JPEG with that header is decoded here; fills scratch with what that needs."""
    if header_bytes < 0 or scratch.size < PLANES:
        return False
    facts = part(scratch, FACTS, (head.NUM_FACTS,), np.int64)
    if not head.read_facts(encoded, header_bytes, facts) or facts[head.INTERVAL] != 0:
        return False
    if facts[head.WIDTH] != width or facts[head.HEIGHT] != height or width < 5:
        return False  # libjpeg does not interpolate chroma of one or two columns
    is_inside = 0 <= wanted[0] < wanted[1] <= height and 0 <= wanted[2] < wanted[3] <= width
    if (
        not is_inside
        or pixels.size < 3 * height * width
        or scratch.size < bytes_needed(np.int64(width), np.int64(encoded.size))
    ):
        return False
    for component in range(facts[head.NUM_COMPONENTS]):
        for table in facts[head.COMPONENTS + 3 * component + 1 : head.COMPONENTS + 3 * component + 3]:
            if not head.is_sound_table(encoded, facts[head.DEFINITIONS + table], table < 4):
                return False
    make_tables(encoded, facts, scratch)
    planes.find_ranges(facts, wanted, height, width, scratch)
    return True


@compiled()
def begin_image(encoded, height, width, wanted, scratch, pixels):  # type: ignore[no-untyped-def]
    """Whether a JPEG of one scan without restart markers is decoded here, as far as its header and its markers tell.

    encoded (n,) uint8; height, width: what its header must say; wanted: (first row, end, first column, end) of the pixels that
    are wanted, of which there are some; scratch (>= decode_scratch.scratch_bytes(),) uint8, its address a multiple of 8;
    pixels (>= height * width * 3,) uint8. Scratch then has all that is needed further.
    """
    header_bytes = _header_bytes(encoded)
    if not _prepare(encoded, header_bytes, height, width, wanted, scratch, pixels):
        return False
    facts = part(scratch, FACTS, (head.NUM_FACTS,), np.int64)
    place = bits_place(np.int64(width), np.int64(width))
    bits = part(scratch, place, (scratch.size - place,), np.uint8)
    # to the end marker, wherever the wanted rows end: a file that was cut off must not pass for a sound one
    status, num_bytes, _, _ = unstuff(encoded, header_bytes, bits, np.empty(0, np.int64))
    if status != WHOLE:
        return False
    progress = part(scratch, PROGRESS, (NUM_PROGRESS,), np.int64)
    progress[HEIGHT], progress[WIDTH], progress[ROW], progress[DONE] = height, width, 0, wanted[0]
    progress[END_ROW] = planes.mcus_of(
        facts[head.NUM_COMPONENTS], facts[head.VERTICAL], wanted[0], wanted[1], np.int64(height)
    )[1]
    for i in range(4):
        progress[WANTED + i] = wanted[i]
    progress[NUM_BLOCKS] = facts[head.HORIZONTAL] * facts[head.VERTICAL] + facts[head.NUM_COMPONENTS] - 1
    stream = part(scratch, STREAMS, (9,), np.uint64)
    bits_at = scratch.ctypes.data + place
    stream[:] = 0
    stream[1], stream[4] = 8 * (bits_at + num_bytes), 8 * bits_at
    _begin_row(scratch)
    return True


@compiled()
def _begin_row(scratch):  # type: ignore[no-untyped-def]
    """Makes the stream that of the blocks of the next row of MCUs."""
    facts = part(scratch, FACTS, (head.NUM_FACTS,), np.int64)
    progress = part(scratch, PROGRESS, (NUM_PROGRESS,), np.int64)
    place = coefficients_place(progress[WIDTH])
    num_coefficients = _mcus_per_row(facts, progress[WIDTH]) * progress[NUM_BLOCKS] * 64
    part(scratch, place, (num_coefficients,), np.int16)[:] = 0
    stream = part(scratch, STREAMS, (9,), np.uint64)
    stream[2], stream[3] = scratch.ctypes.data + place, scratch.ctypes.data + place + 2 * num_coefficients
    stream[8] = 0


@compiled()
def _mcus_per_row(facts, width):  # type: ignore[no-untyped-def]
    return (width + 8 * facts[head.HORIZONTAL] - 1) // (8 * facts[head.HORIZONTAL])


@compiled()
def end_row(scratch, pixels):  # type: ignore[no-untyped-def]
    """Makes the pixels that are complete with a row of MCUs whose blocks are decoded, and begins the next row.

    GOES_ON if there is one; OK if all wanted pixels are made; UNSUPPORTED if something is not sound.
    """
    facts = part(scratch, FACTS, (head.NUM_FACTS,), np.int64)
    progress = part(scratch, PROGRESS, (NUM_PROGRESS,), np.int64)
    stream = part(scratch, STREAMS, (9,), np.uint64)
    if stream[4] > stream[1]:
        return UNSUPPORTED
    row, height, width = progress[ROW], progress[HEIGHT], progress[WIDTH]
    wanted = progress[WANTED], progress[WANTED + 1], progress[WANTED + 2], progress[WANTED + 3]
    coefficients_at = scratch.ctypes.data + coefficients_place(width)
    planes.transform_tile(row, np.int64(0), _mcus_per_row(facts, width), coefficients_at, facts, width, scratch)
    progress[DONE] = planes.show_rows(row, progress[DONE], wanted, height, width, facts, scratch, pixels)
    progress[ROW] = row + 1
    if row + 1 < progress[END_ROW]:
        _begin_row(scratch)
        return GOES_ON
    is_last = 8 * facts[head.VERTICAL] * (row + 1) >= height
    if is_last and stream[1] - stream[4] >= _U(8):
        return UNSUPPORTED
    return UNSUPPORTED if part(scratch, TOO_LARGE, (16,), np.int16).any() else OK


@compiled()
def finish_image(scratch, pixels):  # type: ignore[no-untyped-def]
    """OK or UNSUPPORTED: makes the wanted pixels of an image that was begun, from wherever it is."""
    plan = _U(scratch.ctypes.data + PLAN)
    end_plan = plan + _U(32 * part(scratch, PROGRESS, (NUM_PROGRESS,), np.int64)[NUM_BLOCKS])
    status = GOES_ON
    while status == GOES_ON:
        if not decode_on(_U(scratch.ctypes.data + STREAMS), plan, end_plan):
            return UNSUPPORTED
        status = end_row(scratch, pixels)
    return status


@compiled()
def decode_image(encoded, height, width, scratch, pixels):  # type: ignore[no-untyped-def]
    """OK or UNSUPPORTED: decodes all of a JPEG, see `begin_image`.

    Written: pixels, RGB rows. Nothing outside the arrays is read or written, whatever they hold.
    """
    whole = np.int64(0), np.int64(height), np.int64(0), np.int64(width)
    return finish_image(scratch, pixels) if begin_image(encoded, height, width, whole, scratch, pixels) else UNSUPPORTED


@compiled()
def show_coefficients(header, coefficients, height, width, wanted, scratch, pixels):  # type: ignore[no-untyped-def]
    """OK or UNSUPPORTED: makes the wanted pixels from coefficients (blocks, 64) int16, row by row, in the order of a scan.

    header (n,) uint8: a JPEG's up to its scan, without restart markers; the rest as for `begin_image`.
    """
    if not _prepare(header, np.int64(header.size), height, width, wanted, scratch, pixels):
        return UNSUPPORTED
    facts = part(scratch, FACTS, (head.NUM_FACTS,), np.int64)
    mcus_per_row = _mcus_per_row(facts, width)
    num_rows = (height + 8 * facts[head.VERTICAL] - 1) // (8 * facts[head.VERTICAL])
    per_row = mcus_per_row * (facts[head.HORIZONTAL] * facts[head.VERTICAL] + facts[head.NUM_COMPONENTS] - 1)
    if coefficients.shape[0] != num_rows * per_row or coefficients.shape[1] != 64:
        return UNSUPPORTED
    done = wanted[0]
    for row in range(num_rows):
        address = coefficients.ctypes.data + 128 * row * per_row
        planes.transform_tile(row, np.int64(0), mcus_per_row, address, facts, width, scratch)
        done = planes.show_rows(row, done, wanted, height, width, facts, scratch, pixels)
    return UNSUPPORTED if part(scratch, TOO_LARGE, (16,), np.int16).any() else OK


Window = tuple[int, int, int, int]  # first row, end, first column, end


class ImageDecoder:
    """Decodes one JPEG after another for Python code, in memory that it keeps."""

    def __init__(self) -> None:
        self.scratch = np.empty(0, np.uint8)
        self.pixels = np.empty(0, np.uint8)

    def decode(self, encoded: bytes, height: int, width: int) -> NDArray[np.uint8] | None:
        """Pixels (height, width, 3) uint8, valid until the next call; None for what is TurboJPEG's."""
        self._take_memory(height, width, len(encoded))
        status = decode_image(np.frombuffer(encoded, np.uint8), height, width, self.scratch, self.pixels)
        return self.image(height, width) if status == OK else None

    def begin(self, encoded: bytes, height: int, width: int, window: Window) -> bool:
        """Whether `begin_image` begins that image; `finish` finishes it, or `kernels.jpeg.decode_pair`."""
        self._take_memory(height, width, len(encoded))
        what = np.frombuffer(encoded, np.uint8), height, width, window
        return bool(begin_image(*what, self.scratch, self.pixels))

    def finish(self) -> bool:
        """Whether the image that was begun is sound, as far as its window depends on it; `image` then shows that."""
        return bool(finish_image(self.scratch, self.pixels) == OK)

    def show(
        self, header: bytes, coefficients: NDArray[np.int16], height: int, width: int, window: Window | None = None
    ) -> NDArray[np.uint8] | None:
        """`decode` of coefficients, see `show_coefficients`; of a window, other pixels are undefined."""
        self._take_memory(height, width, len(header))
        what = np.frombuffer(header, np.uint8), coefficients, height, width, window or (0, height, 0, width)
        return self.image(height, width) if show_coefficients(*what, self.scratch, self.pixels) == OK else None

    def image(self, height: int, width: int) -> NDArray[np.uint8]:
        """The pixels (height, width, 3) uint8 made last."""
        return self.pixels[: 3 * height * width].reshape(height, width, 3)

    def _take_memory(self, height: int, width: int, num_bytes: int) -> None:
        num_words = scratch_bytes(width, num_bytes) // 8
        if self.scratch.size < 8 * num_words:
            self.scratch = np.empty(num_words + num_words // 4, np.uint64).view(np.uint8)
        if self.pixels.size < 3 * height * width:
            self.pixels = np.empty(3 * height * width, np.uint8)
