"""Headers of JPEGs: what they share, and which of several faults is told."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from deit_fast.data.convert import transcode as jpeg


def _saved(width: int, **options: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, 40)).save(file, "JPEG", **options)
    return file.getvalue()


def test_what_is_wrong_first_is_the_reason() -> None:
    source = _saved(200)
    frame = source[(at := source.index(b"\xff\xc0")) : at + 19]
    with_12_bits = source.replace(frame, frame[:4] + b"\x0c" + frame[5:])
    for end in (at + 19, at + 25):  # the header also ends early
        with pytest.raises(jpeg.NotTranscodable, match="12 bits"):
            jpeg.read_header(with_12_bits[:end])


def test_headers_that_say_the_same_are_one() -> None:
    source = _saved(200, comment=b"one")
    assert jpeg.read_header(source) is jpeg.read_header(_saved(200, comment=b"two"))
    longer = jpeg.read_header(_saved(200, comment=b"three"))
    assert longer.header_bytes == jpeg.read_header(source).header_bytes + 2
    assert jpeg.read_header(_saved(208, comment=b"one")).width == 208
    other_tables = jpeg.read_header(_saved(200, comment=b"one", quality=50))
    assert other_tables.quantizations != longer.quantizations


def test_thumbnails_are_not_kept() -> None:
    source = _saved(200)
    end = source.index(b"JFIF\0") + 14

    def with_thumbnail(colour: bytes) -> bytes:
        assert source[4:6] == b"\0\x10"
        jfif = source[4:].replace(b"\0\x10", (16 + 3).to_bytes(2, "big"), 1)
        at = end - 4
        return source[:4] + jfif[: at - 2] + b"\1\1" + colour + jfif[at:]

    one, other = jpeg.read_header(with_thumbnail(b"\1\2\3")), jpeg.read_header(with_thumbnail(b"\4\5\6"))
    assert one is other
    assert one.jfif == jpeg.read_header(source).jfif
    assert one.header_bytes == jpeg.read_header(source).header_bytes + 3
