"""Segments around the data of JPEGs: which of them are dropped, added or moved while the pixels stay the same."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deit_fast.data.convert import transcode as jpeg
from tests.data.convert.jpegs import check, in_three_scans, needs_programs, picture, pixels, saved


def test_only_what_bears_on_pixels_is_kept(transcoder: jpeg.Transcoder) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    source = saved(picture(40, 40), exif=exif, comment=b"a comment", icc_profile=b"profile")
    out = check(transcoder, source[:-2] + b"\xff\xff\xff\xd9" + b"trailing bytes")  # fill bytes before a marker
    for dropped in (b"Exif", b"a comment", b"ICC", b"trailing"):
        assert dropped in source + b"trailing" and dropped not in out.encoded
    assert b"JFIF" in out.encoded


def _line_count(height: int) -> bytes:
    return b"\xff\xdc\0\4" + height.to_bytes(2, "big")


_COMMENT, _APPLICATION_DATA = b"\xff\xfe\0\7hello", b"\xff\xe1\0\4\0\xff"


@pytest.mark.parametrize(
    "behind",
    [
        _line_count(40),
        _COMMENT,
        _APPLICATION_DATA,
        _COMMENT + _line_count(40) + b"\xff\xff" + _APPLICATION_DATA,
    ],
)
@pytest.mark.parametrize("options", [{}, {"restart_marker_blocks": 3}, {"progressive": True}])
def test_segments_behind_the_scan_are_dropped(transcoder: jpeg.Transcoder, behind: bytes, options: dict[str, object]) -> None:
    plain = saved(picture(40, 200), **options)
    source = plain[:-2] + behind + b"\xff\xd9"
    np.testing.assert_array_equal(pixels(source), pixels(plain))
    assert check(transcoder, source).encoded == transcoder.transcode(plain).encoded


@pytest.mark.parametrize("behind", [_line_count(41), _COMMENT[:-1], b"\xff\xc4\0\2", b"\xff\xfe\0\1", _COMMENT + b"x"])
def test_other_segments_behind_the_scan_are_not(transcoder: jpeg.Transcoder, behind: bytes) -> None:
    with pytest.raises(jpeg.NotTranscodable, match="another marker inside"):
        transcoder.transcode(saved(picture(40, 200))[:-2] + behind + b"\xff\xd9")


@needs_programs
@pytest.mark.parametrize("kind", ["baseline", "restarts", "progressive", "three scans"])
def test_height_behind_the_first_scan(transcoder: jpeg.Transcoder, kind: str, tmp_path: Path) -> None:
    image = picture(40, 200)
    options = {"restart_marker_blocks": 5} if kind == "restarts" else {"progressive": kind == "progressive"}
    plain = in_three_scans(image, tmp_path / "scans") if kind == "three scans" else saved(image, **options)
    frame = re.search(rb"\xff[\xc0\xc2]\0\x11\x08\0\x28", plain)
    assert frame is not None
    first_scan = plain.index(b"\xff\xda")
    end = first_scan + re.search(rb"\xff[\x01-\xcf\xd8-\xfe]", plain[first_scan + 2 :]).start() + 2  # type: ignore[union-attr]
    late = plain[: frame.end() - 2] + b"\0\0" + plain[frame.end() : end] + _line_count(40) + plain[end:]
    with pytest.raises(OSError, match="cannot identify"):  # libjpeg takes none
        Image.open(io.BytesIO(late))
    with_height = jpeg.with_height(late)
    np.testing.assert_array_equal(pixels(with_height), pixels(plain))
    assert check(transcoder, with_height).encoded == transcoder.transcode(plain).encoded
    for same in (
        plain,
        plain[:end] + _line_count(40) + plain[end:],
        plain[:-2] + b"\xff\xdc",
        late.replace(_line_count(40), _line_count(0)),
        with_height,
    ):
        assert jpeg.with_height(same) == same


@pytest.mark.parametrize("missing", [b"[\\0\1\x10\x11]", b"\x11", b"[\\0\1]"])
def test_frames_of_motion_jpeg_have_the_standard_tables(transcoder: jpeg.Transcoder, missing: bytes) -> None:
    plain = saved(picture(40, 200))
    source = re.sub(rb"(?s)\xff\xc4.." + missing + rb".*?(?=\xff[\xc4\xda])", b"", plain)
    assert len(source) < len(plain)
    np.testing.assert_array_equal(pixels(source), pixels(plain))
    assert check(transcoder, source).encoded == transcoder.transcode(plain).encoded
