"""Reads an image's EXIF orientation, the only metadata that affect its pixels; unreadable metadata count as absent."""

from __future__ import annotations

import contextlib
import re
import struct
import warnings
import zlib

from PIL import Image

from deit_fast.data.convert.transcode import NotTranscodable, segments

ORIENTATION = 0x0112  # EXIF tag
_BIG_ENDIAN_TAG, _LITTLE_ENDIAN_TAG = struct.pack(">H", ORIENTATION), struct.pack("<H", ORIENTATION)
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
_TURNS = {turn: turn for turn in range(2, 9)}  # looked up as Pillow does: 6, 6.0 and the ratio 6/1 are the same
_PNG_START = b"\x89PNG\r\n\x1a\n"
# a PNG's chunks that decide its pixels, and EXIF, which is read where possible
_KEPT_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"eXIf")
_AVIF_EXIF = re.compile(rb"(infe\x02.{7})Exif", re.DOTALL)  # Exif's entry in the list of items


def orientation_of(image: Image.Image) -> int:
    """EXIF orientation of a loaded image, 1 to 8, by the rule of Pillow's ImageOps.exif_transpose.

    XMP counts where EXIF has no orientation. 1 (upright) if there is none, it is not 1 to 8, or Pillow cannot read it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _TURNS.get(image.getexif().get(ORIENTATION, 1), 1)
    except Exception:  # Pillow's reader may raise anything
        return 1


def jpeg_orientation(encoded: bytes) -> int:
    """orientation_of a JPEG, from the segments of its header that Pillow would read, without opening it in Pillow."""
    exif = xmp = b""
    try:
        for marker, start, end in segments(encoded):
            if marker == 0xE1 and encoded.startswith(_EXIF, start):
                exif += encoded[start + len(_EXIF) if exif else start : end]
            elif marker == 0xE1 and encoded.startswith(_XMP, start):
                xmp = encoded[start + len(_XMP) : end]
    except NotTranscodable:
        return 1
    if not xmp and _BIG_ENDIAN_TAG not in exif and _LITTLE_ENDIAN_TAG not in exif:
        return 1  # Pillow takes 50 us for this
    image = Image.Image()
    image.info = {name: data for name, data in (("exif", exif), ("xmp", xmp)) if data}
    return orientation_of(image)


class ReadableExif(Image.Exif):
    """EXIF whose unreadable directories count as empty; Pillow's TIFF reader reads them while it loads pixels."""

    def get_ifd(self, tag: int) -> dict[int, object]:
        try:
            return super().get_ifd(tag)
        except Exception:
            return {}


def without_metadata(encoded: bytes) -> bytes:
    """A PNG, JPEG or AVIF without the metadata that could keep Pillow from opening it; any other file unchanged."""
    if encoded.startswith(_PNG_START):
        return _png_without_metadata(encoded)
    if encoded.startswith(b"\xff\xd8"):
        return _jpeg_without_metadata(encoded)
    if encoded[4:8] == b"ftyp":
        return _AVIF_EXIF.sub(rb"\1none", encoded)  # decoders do not know this type of item
    return encoded


def _png_without_metadata(encoded: bytes) -> bytes:
    kept = [_PNG_START]
    at = len(_PNG_START)
    while at + 12 <= len(encoded):
        (size,) = struct.unpack_from(">I", encoded, at)
        kind, end = encoded[at + 4 : at + 8], at + 12 + size
        is_sound = encoded[end - 4 : end] == struct.pack(">I", zlib.crc32(encoded[at + 4 : end - 4]))
        if kind in _KEPT_CHUNKS and (is_sound or kind != b"eXIf"):
            kept.append(encoded[at:end])
        at = end
    return b"".join(kept)


def _jpeg_without_metadata(encoded: bytes) -> bytes:
    """Drops all application data except those that say how colours are stored."""
    kept = [encoded[:2]]
    at = 2
    with contextlib.suppress(NotTranscodable):
        for marker, start, end in segments(encoded):
            is_colour = (marker == 0xE0 and end - start >= 14) or (marker == 0xEE and end - start >= 12)
            if is_colour or not (0xE0 <= marker <= 0xEF or marker == 0xFE):
                kept.append(encoded[at:end])
            at = end
    return b"".join([*kept, encoded[at:]])
