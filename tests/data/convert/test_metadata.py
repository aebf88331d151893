"""Orientation against Pillow's exif_transpose, over EXIF of all sorts; metadata that cannot be read refuse no image."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin

from deit_fast.config import WriteConfig
from deit_fast.data.convert.converter import Converter
from deit_fast.data.convert.metadata import jpeg_orientation
from deit_fast.data.convert.pixels import decode, turn
from tests.data.odd_files import encoded
from tests.scale import scaled

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1))
XMP = b"http://ns.adobe.com/xap/1.0/\0"


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks(png: bytes, *chunks: bytes) -> bytes:
    return png[:33] + b"".join(chunks) + png[33:]  # behind IHDR


def with_app1(jpeg: bytes, *segments: bytes) -> bytes:
    return jpeg[:2] + b"".join(struct.pack(">HH", 0xFFE1, 2 + len(data)) + data for data in segments) + jpeg[2:]


def tiff(order: str, entries: list[tuple[int, int, int, int]], start: int = 8) -> bytes:
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, start)
    rows = b"".join(struct.pack(order + "HHI", *entry[:3]) + value(order, *entry[1::2]) for entry in entries)
    return head + struct.pack(order + "H", len(entries)) + rows + bytes(4)


def value(order: str, kind: int, number: int) -> bytes:
    return struct.pack(order + ("H2x" if kind in (3, 8) else "B3x" if kind in (1, 6) else "I"), number)


entries = st.lists(
    st.tuples(
        st.sampled_from([0x0112, 0x0112, 0x0100, 0x8769, 0x011A]), st.integers(0, 17), st.integers(0, 3), st.integers(0, 9)
    ),
    max_size=4,
)
blobs = st.one_of(
    st.binary(max_size=40),
    st.builds(tiff, st.sampled_from("<>"), entries, st.sampled_from([8, 8, 8, 0, 9, 200])),
    st.builds(lambda order, turned: tiff(order, [(0x0112, 3, 1, turned)]), st.sampled_from("<>"), st.integers(0, 9)),
)
JPEG = encoded(PICTURE, quality=95)
PNG = encoded(PICTURE, "PNG")


METHODS = dict(enumerate(
    (
        Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM, Image.Transpose.TRANSPOSE,
        Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE, Image.Transpose.ROTATE_90,
    ),
    2,
))  # fmt: skip


def as_exif_transpose(content: bytes) -> np.ndarray:
    """Pillow's own pixels; those of the image as it lies if Pillow cannot read its metadata.

    Pillow may read an orientation from XMP and then fail to write the EXIF without it: the orientation counts.
    """
    try:
        return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))).convert("RGB"))
    except Exception:
        image = PICTURE if content.startswith(b"\x89PNG") else Image.open(io.BytesIO(JPEG))
        with contextlib.suppress(Exception), Image.open(io.BytesIO(content)) as read:
            read.load()
            return np.asarray(image.transpose(METHODS[read.getexif()[0x0112]]))
        return np.asarray(image)


@pytest.mark.filterwarnings("ignore")
@given(
    blob=blobs, num_prefixes=st.integers(0, 3), cut=st.integers(0, 60), xmp=st.sampled_from(["", '="3"', ">6<", '="9"', '="x"'])
)
@example(blob=tiff(">", [(0x0112, 3, 1, 6)]), num_prefixes=2, cut=0, xmp="")
@example(blob=tiff("<", [(0x0112, 5, 1, 0)]), num_prefixes=1, cut=0, xmp='="3"')
@example(blob=tiff("<", []), num_prefixes=1, cut=0, xmp=">6<")
@example(blob=b"II\0*\x08\0\0\0\0\x01\0\x01\x01\0\x01" + bytes(7), num_prefixes=0, cut=0, xmp='="3"')
@settings(max_examples=scaled(150, 20))
@pytest.mark.slow
def test_orientation_is_that_of_exif_transpose(blob: bytes, num_prefixes: int, cut: int, xmp: str) -> None:
    exif = b"Exif\0\0" * num_prefixes + blob[: -cut or None]
    packet = f"<x:xmpmeta tiff:Orientation{xmp}/>".encode() if xmp else b""
    jpeg = with_app1(JPEG, exif, *([XMP + packet] if xmp else []))
    text = [png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet)] if xmp else []
    png = with_chunks(PNG, png_chunk(b"eXIf", exif), *text)
    for content in (jpeg, png):
        found = decode(content, "")
        np.testing.assert_array_equal(np.asarray(turn(found.pixels, found.orientation)), as_exif_transpose(content))
    assert jpeg_orientation(jpeg) == decode(jpeg, "").orientation


def test_exif_in_several_segments_is_one() -> None:
    blob = tiff("<", [(0x0100, 3, 1, 9), (0x0112, 3, 1, 8)])
    content = with_app1(JPEG, b"Exif\0\0" + blob[:25], b"Exif\0\0" + blob[25:])
    assert jpeg_orientation(content) == decode(content, "").orientation == 8
    np.testing.assert_array_equal(
        np.asarray(turn(decode(content, "").pixels, 8)), np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
    )


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(10))
def test_every_format_is_turned_once(order: str, orientation: int) -> None:
    """A TIFF is turned by Pillow itself, while it is loaded."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif.endian = order
    for kind in ("PNG", "WEBP", "TIFF", "JPEG", "AVIF"):
        options: dict[str, object] = (
            {"lossless": True}
            if kind == "WEBP"
            else {"compression": "tiff_lzw"}
            if kind == "TIFF" and 1 <= orientation <= 8
            else {}
        )
        content = encoded(PICTURE, kind, exif=exif, **options)
        wanted = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(content))))
        stored = Converter(WriteConfig(mode="raw", exif_orientation="apply")).convert(0, "x", content, False)
        assert (stored.height, stored.width) == wanted.shape[:2]
        np.testing.assert_array_equal(np.frombuffer(stored.stored, np.uint8).reshape(wanted.shape), wanted)


def broken_tiff() -> bytes:
    """A TIFF whose last entry, which says nothing, became that of an EXIF directory before the start of the file."""
    exif = Image.Exif()
    exif[0x0112] = 6
    content = bytearray(encoded(PICTURE, "TIFF", exif=exif))
    (start,) = struct.unpack_from("<I", content, 4)
    last = start + 2 + 12 * (struct.unpack_from("<H", content, start)[0] - 1)
    assert struct.unpack_from("<H", content, last)[0] == 284
    struct.pack_into("<HHIi", content, last, 0x8769, 9, 1, -5)
    return bytes(content)


NO_EXIF = b"Exif\0\0this is no TIFF, and has no directory"
BROKEN = {
    "png: EXIF": with_chunks(PNG, png_chunk(b"eXIf", NO_EXIF)),
    "png: EXIF in text": with_chunks(PNG, png_chunk(b"tEXt", b"Raw profile type exif\0no\nhex\n\nzz")),
    "png: wrong checksum of a comment": with_chunks(PNG, png_chunk(b"tEXt", b"a\0b")[:-1] + b"?"),
    "png: wrong checksum of EXIF": with_chunks(PNG, png_chunk(b"eXIf", b"II*\0")[:-1] + b"?"),
    "png: text that fills memory": with_chunks(PNG, png_chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(3 << 20)))),
    "png: profile that fills memory": with_chunks(PNG, png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(3 << 20)))),
    "png: short physical size": with_chunks(PNG, png_chunk(b"pHYs", b"12")),
    "webp: EXIF": encoded(PICTURE, "WEBP", lossless=True, exif=NO_EXIF),
    "tiff: EXIF directory": broken_tiff(),
    "jpeg: EXIF": with_app1(JPEG, NO_EXIF),
    "cmyk jpeg: JFIF": encoded(PICTURE.convert("CMYK"), quality=95).replace(b"\xff\xd8", b"\xff\xd8\xff\xe0\0\x07JFIF\0", 1),
    "avif: EXIF": encoded(PICTURE, "AVIF", lossless=True, exif=tiff("<", [(0x0100, 3, 1, 1)])).replace(b"II*\0", b"II??"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_metadata_that_cannot_be_read_count_as_absent(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    found = decode(BROKEN[name], name)
    wanted = np.asarray(PICTURE).astype(int)
    if name.startswith("tiff"):
        assert found.orientation == 1
        wanted = np.asarray(PICTURE.transpose(Image.Transpose.ROTATE_270)).astype(int)
    assert np.abs(np.asarray(found.pixels) - wanted).mean() <= (12 if "jpeg" in name or "avif" in name else 0)
    assert capfd.readouterr() == ("", "")


def test_a_readable_orientation_survives_other_metadata_that_are_not() -> None:
    content = with_chunks(PNG, png_chunk(b"pHYs", b"12"), png_chunk(b"eXIf", tiff(">", [(0x0112, 3, 1, 6)])))
    with pytest.raises(Exception, match=r"pHYs|cannot identify"):
        Image.open(io.BytesIO(content)).load()
    assert decode(content, "").orientation == 6


def test_pillow_still_refuses_what_is_broken_here() -> None:
    """Else the test of these files shows nothing."""
    refused = set()
    for name, content in BROKEN.items():
        try:
            with Image.open(io.BytesIO(content)) as image:
                image.load()
                image.getexif()
        except Exception:
            refused.add(name)
    assert set(BROKEN) - refused <= {"jpeg: EXIF"}
    assert PngImagePlugin.MAX_TEXT_CHUNK <= 3 << 20
