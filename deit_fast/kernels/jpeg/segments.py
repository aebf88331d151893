"""The segments of a JPEG's header, one after another, for compiled code and for Python."""

from __future__ import annotations

from deit_fast.kernels.compiled import compiled

NO_MARKER = -1
CUT_OFF = -2
WRONG_LENGTH = -3
START_OF_SCAN = 0xDA


@compiled()
def next_segment(encoded, at, size):  # type: ignore[no-untyped-def]
    """(marker, start of its data, their end) of the segment whose marker begins at byte `at`, of the first `size` bytes.

    encoded (n,) uint8, n >= size. Fill bytes before the marker are passed. In place of the marker: NO_MARKER where none stands,
    CUT_OFF where the bytes end before the segment's length, WRONG_LENGTH where that reaches beyond them; then start is where.
    """
    if at >= size or encoded[at] != 0xFF:
        return NO_MARKER, at, at
    while at < size and encoded[at] == 0xFF:
        at += 1
    if at + 3 > size:
        return CUT_OFF, at, at
    end = at + 1 + (256 * encoded[at + 1] + encoded[at + 2])
    if end > size or end < at + 3:
        return WRONG_LENGTH, at, end
    return 0 + encoded[at], at + 3, end
