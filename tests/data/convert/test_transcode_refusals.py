"""JPEGs that are not transcoded, and why; damaged ones are refused or keep their pixels."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deit_fast.data.convert import transcode as jpeg
from tests.data.convert.jpegs import picture, pixels, saved
from tests.scale import scaled


def _replaced(source: bytes, old: bytes, new: bytes) -> bytes:
    assert source.count(old) == 1
    return source.replace(old, new)


def test_what_is_refused_and_why(transcoder: jpeg.Transcoder) -> None:
    image = picture(40, 200)
    source = saved(image, subsampling=0)
    restarted = saved(image, subsampling=0, restart_marker_blocks=5)
    frame = source[(at := source.index(b"\xff\xc0")) : at + 19]
    scan = source[(at := source.index(b"\xff\xda")) : at + 14]
    cases = {
        "no JPEG": b"\x89PNG",
        "the length of segment": source[:500],
        "the header ends early": source[: at + 2],
        "4 components": saved(image.convert("CMYK")),
        "12 bits": _replaced(source, frame, frame[:4] + b"\x0c" + frame[5:]),
        "damaged: size 200x0": _replaced(source, frame, frame[:5] + b"\0\0" + frame[7:]),
        "sampling factors": _replaced(source, frame, frame[:11] + b"\x51" + frame[12:]),
        "fractional sampling": _replaced(source, frame, frame[:11] + b"\x31" + frame[12:14] + b"\x21" + frame[15:]),
        "lossless": _replaced(source, frame, b"\xff\xc3" + frame[2:]),
        "two frames": _replaced(source, frame, frame + frame),
        "a scan without a frame": _replaced(source, frame, b""),
        "length of the frame header": _replaced(source, frame, frame[:9] + b"\x02" + frame[10:]),
        "not that of a sequential": _replaced(source, scan, scan[:-1] + b"\x01"),
        "no end marker": source[:-2],
        "no end marker ": source[:-40],
        "the data end early": source[:-40] + b"\xff\xd9",
        "bytes left over": source[:-2] + b"\xaa\xaa\xff\xd9",
        "another marker inside": source[:-2] + b"\xff\xc0\xff\xd9",
        "restart markers not where": restarted.replace(b"\xff\xd3", b"\xff\xd4", 1),
        "restart markers not where they": restarted.replace(b"\xff\xd3", b"", 1),
        "Huffman table is missing": _replaced(source, scan, scan.replace(b"\x11", b"\x21")),
        "quantisation table": re.sub(rb"(?s)\xff\xdb\0.\x01", b"\xff\xfe\0\x43\x01", source),
        "damaged: progressive: ": saved(image, progressive=True)[:-400],
        "JPEG-LS: FF F7": _replaced(source, frame, b"\xff\xf7" + frame[2:]),
        "damaged: FF DC before": _replaced(source, scan, b"\xff\xdc\0\4\0\x28" + scan),
        "hierarchical: FF DE": _replaced(source, frame, b"\xff\xde" + frame[2:]),
        "size 65501x40: libjpeg takes": _replaced(source, frame, frame[:7] + b"\xff\xdd" + frame[9:]),
    }
    for reason, damaged in cases.items():
        with pytest.raises(jpeg.NotTranscodable, match=re.escape(reason.strip())) as caught:
            transcoder.transcode(damaged)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 120


def test_progressive_that_lacks_a_scan_is_refused(transcoder: jpeg.Transcoder) -> None:
    """Decoders smooth what such a file shows, which they do not for the same coefficients in a baseline file."""
    source = saved(picture(64, 64), progressive=True)
    last = source.rindex(b"\xff\xc4")  # the last scan's Huffman table, which stands before it
    with pytest.raises(jpeg.NotTranscodable, match="progressive: as a baseline JPEG it has other pixels"):
        transcoder.transcode(source[:last] + b"\xff\xd9")


SOURCES = [
    saved(picture(24, 70), quality=60, subsampling=2, optimize=True),
    saved(picture(17, 90, seed=1), quality=95, subsampling=0, restart_marker_blocks=3),
    saved(picture(30, 30, 1, seed=2), quality=90),
    saved(picture(24, 70), quality=80, progressive=True),
]


@given(
    source=st.sampled_from(SOURCES),
    places=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=3),
    end=st.one_of(st.none(), st.floats(0, 1)),
    in_data=st.booleans(),
)
@settings(max_examples=scaled(400, 50), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damaged_bytes_are_refused_or_harmless(
    transcoder: jpeg.Transcoder, source: bytes, places: list[tuple[float, int]], end: float | None, in_data: bool
) -> None:
    damaged = bytearray(source)
    start = jpeg.read_header(source).header_bytes if in_data else 0
    for place, byte in places:
        damaged[start + int(place * (len(source) - 1 - start))] = byte
    damaged = damaged[: None if end is None else int(end * len(source))]
    try:
        out = transcoder.transcode(bytes(damaged))
    except jpeg.NotTranscodable:
        return
    np.testing.assert_array_equal(pixels(out.encoded), pixels(bytes(damaged)))


@given(st.binary(max_size=60))
@settings(max_examples=scaled(200, 25))
def test_random_headers_are_refused(tail: bytes) -> None:
    transcoder = jpeg.Transcoder(optimize=False)
    for head in (b"", b"\xff\xd8", b"\xff\xd8\xff", SOURCES[1][:180], SOURCES[1][:-20]):
        with pytest.raises(jpeg.NotTranscodable):
            transcoder.transcode(head + tail)
        with pytest.raises(jpeg.NotTranscodable):
            jpeg.tiling_of(head + tail)
        assert jpeg.with_height(head + tail) == head + tail
