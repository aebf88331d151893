"""Reads the segments behind the first scan of a JPEG: the height that its header lacks, or what may be dropped."""

from __future__ import annotations

import re
import struct

from deit_fast.data.convert.transcode.header import NotTranscodable, is_frame, segments

_OTHER_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # except restart markers, which may lie in a scan's data
_LINE_COUNT = b"\xff\xdc\x00\x04"  # the segment of two bytes after the first scan that gives the frame's height


def with_height(encoded: bytes) -> bytes:
    """Moves the height into the frame header if that says 0 because a DNL segment after the first scan has the height.

    libjpeg, and so every decoder here, takes a height of 0 for no image. Other JPEGs come back unchanged.
    """
    height_at = scan_at = 0
    try:
        for marker, start, scan_at in segments(encoded):  # noqa: B007  (the last segment ends where the scan's data start)
            if is_frame(marker):
                height_at = start + 1
                if encoded[height_at : height_at + 2] != b"\0\0":
                    return encoded
    except NotTranscodable:
        return encoded
    behind = _OTHER_MARKER.search(encoded, scan_at)
    if not height_at or behind is None or not encoded.startswith(_LINE_COUNT, behind.start()):
        return encoded
    height = encoded[behind.start() + 4 : behind.start() + 6]
    return encoded[:height_at] + height + encoded[height_at + 2 :] if any(height) else encoded


def ends_idly(encoded: bytes, at: int, height: int) -> bool:
    """Whether only segments that do not affect pixels lie between a scan's data (the marker at `at`) and the end marker.

    These are comments, application data, and the number of lines (DNL) if it equals the frame header's height.
    """
    while True:
        if encoded[at : at + 1] != b"\xff":
            return False
        while encoded[at : at + 1] == b"\xff":
            at += 1
        marker = encoded[at : at + 1]
        if marker == b"\xd9":
            return True
        size = int.from_bytes(encoded[at + 1 : at + 3], "big")
        is_comment = marker == b"\xfe" or b"\xe0" <= marker <= b"\xef"
        is_height = marker == b"\xdc" and encoded[at + 1 : at + 5] == struct.pack(">HH", 4, height)
        if not (is_height or (is_comment and size >= 2)):
            return False
        at += 1 + size
