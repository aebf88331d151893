"""Transcoded JPEGs against their sources, decoded by Pillow and TurboJPEG, and against what jpegtran makes of them."""

from __future__ import annotations

import io
import itertools
import re
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from deit_fast.data.convert import transcode as jpeg
from deit_fast.kernels.jpeg import turbojpeg
from tests.scale import scaled

needs_programs = pytest.mark.skipif(shutil.which("jpegtran") is None, reason="libjpeg-turbo-progs is not installed")


@pytest.fixture(scope="module", params=[False, True], ids=["copied", "optimized"])
def transcoder(request: pytest.FixtureRequest) -> Iterator[jpeg.Transcoder]:
    transcoder = jpeg.Transcoder(optimize=request.param)
    yield transcoder
    transcoder.close()


def picture(height: int, width: int, channels: int = 3, seed: int = 0) -> Image.Image:
    """Smooth shapes with some noise, somewhat like a photograph."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (height // 24 + 2, width // 24 + 2, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    noisy = np.clip(smooth + generator.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
    return Image.fromarray(noisy if channels == 3 else noisy[..., 0])


def saved(image: Image.Image, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def cjpeg(image: Image.Image, *arguments: str) -> bytes:
    file = io.BytesIO()
    image.save(file, "PPM")
    return subprocess.run(["cjpeg", *arguments], input=file.getvalue(), capture_output=True, check=True).stdout


def jpegtran(encoded: bytes, *arguments: str) -> bytes:
    return subprocess.run(["jpegtran", *arguments], input=encoded, capture_output=True, check=True).stdout


def pixels(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)))


def turbo_pixels(encoded: bytes) -> np.ndarray | None:
    """None: TurboJPEG knows only the usual sampling factors."""
    width, height = jpeg.jpeg_size(encoded)
    out = np.empty(height * width * 3, np.uint8)
    handles = turbojpeg.DecoderHandles(1)
    status = turbojpeg.decode_jpeg(handles.pointers, np.frombuffer(encoded, np.uint8), height, width, out)
    assert status in (turbojpeg.OK, turbojpeg.UNREADABLE_HEADER)
    return None if status == turbojpeg.UNREADABLE_HEADER else out.reshape(height, width, 3)


def check(transcoder: jpeg.Transcoder, source: bytes, *, is_usual: bool = True) -> jpeg.Transcoded:
    """Transcodes; the pixels are the source's, and the markers are where the tiling says."""
    out = transcoder.transcode(source)
    np.testing.assert_array_equal(pixels(out.encoded), pixels(source))
    from_source, from_out = turbo_pixels(source), turbo_pixels(out.encoded)
    assert from_source is not None or not is_usual
    assert (from_source is None) == (from_out is None)
    if from_source is not None and from_out is not None:
        np.testing.assert_array_equal(from_out, from_source)
    assert (out.width, out.height) == jpeg.jpeg_size(source) == Image.open(io.BytesIO(out.encoded)).size
    tiling = out.tiling
    mcus_per_row, num_rows = -(-out.width // tiling.mcu_width), -(-out.height // tiling.mcu_height)
    assert mcus_per_row % tiling.interval == 0
    assert tiling.interval == jpeg.restart_interval(mcus_per_row, tiling.mcu_width)
    ends = tiling.header_bytes + np.cumsum(tiling.lengths)
    assert len(ends) == mcus_per_row // tiling.interval * num_rows
    markers = [out.encoded[end - 2 : end] for end in ends]
    assert markers == [bytes((0xFF, 0xD0 + tile % 8)) for tile in range(len(ends) - 1)] + [b"\xff\xd9"]
    assert ends[-1] == len(out.encoded)
    found = jpeg.tiling_of(out.encoded)
    np.testing.assert_array_equal(found.lengths, tiling.lengths)
    assert (found.mcu_width, found.mcu_height, found.interval, found.header_bytes) == (
        tiling.mcu_width, tiling.mcu_height, tiling.interval, tiling.header_bytes,
    )  # fmt: skip
    return out


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}, {"restart_marker_blocks": 5}])
def test_pixels_stay_the_same(transcoder: jpeg.Transcoder, subsampling: str, options: dict[str, object]) -> None:
    source = saved(picture(101, 263), quality=90, subsampling=subsampling, **options)
    out = check(transcoder, source)
    assert out.way == ("coefficients" if "progressive" in options else "bits")
    assert (out.tiling.mcu_width, out.tiling.mcu_height) == jpeg.sampling_mcu(subsampling)
    assert out.components == 3


@needs_programs
@pytest.mark.parametrize(
    "sampling", ["1x2", "4x1", "1x4", "4x2", "2x2,2x1", "2x2,1x2,2x1", "1x1,2x2", "1x1,1x1,2x1", "2x2,2x2,1x1", "3x1"]
)
@pytest.mark.parametrize("restart", ["0", "1", "7B"])
def test_unusual_sampling(transcoder: jpeg.Transcoder, sampling: str, restart: str) -> None:
    source = cjpeg(picture(70, 150), "-quality", "85", "-sample", sampling, "-restart", restart)
    out = check(transcoder, source, is_usual=sampling in ("1x2", "4x1"))
    if sampling in ("1x2", "4x1"):
        assert (out.tiling.mcu_width, out.tiling.mcu_height) == jpeg.sampling_mcu({"1x2": "4:4:0", "4x1": "4:1:1"}[sampling])


@needs_programs
@pytest.mark.parametrize("sampling", ["1x2", "4x1"])
def test_progressive_of_other_sampling(transcoder: jpeg.Transcoder, sampling: str) -> None:
    assert check(transcoder, cjpeg(picture(70, 150), "-progressive", "-sample", sampling)).way == "coefficients"


@needs_programs
@pytest.mark.parametrize("sampling", ["1x1", "2x2"])
def test_grey_has_mcus_of_one_block_whatever_its_sampling_factors(transcoder: jpeg.Transcoder, sampling: str) -> None:
    source = cjpeg(picture(50, 139), "-grayscale", "-sample", sampling)
    assert jpeg.read_header(source).components[0].vertical == int(sampling[0])
    out = check(transcoder, source)
    assert (out.components, out.tiling.mcu_width, out.tiling.mcu_height) == (1, 8, 8)


@pytest.mark.parametrize("progressive", [False, True])
def test_grey(transcoder: jpeg.Transcoder, progressive: bool) -> None:
    assert check(transcoder, saved(picture(50, 139, 1), progressive=progressive)).components == 1


@needs_programs
def test_arithmetic_coding_and_several_scans(transcoder: jpeg.Transcoder, tmp_path: Path) -> None:
    image = picture(70, 150)
    assert check(transcoder, cjpeg(image, "-arithmetic")).way == "TurboJPEG"
    assert check(transcoder, _in_three_scans(image, tmp_path / "scans")).way == "TurboJPEG"


def _in_three_scans(image: Image.Image, script: Path) -> bytes:
    script.write_text("0;1;2;")
    return cjpeg(image, "-scans", str(script))


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("marked", [False, True])
def test_rgb_stays_rgb(transcoder: jpeg.Transcoder, progressive: bool, marked: bool) -> None:
    source = saved(picture(40, 90), quality=95, keep_rgb=True, progressive=progressive)
    adobe = source.index(b"\xff\xee")
    assert source[adobe + 4 : adobe + 9] == b"Adobe"
    if not marked:  # then the names R, G, B of the components say it
        source = source[:adobe] + source[adobe + 16 :]
    out = check(transcoder, source)
    assert (b"Adobe" in out.encoded) == marked
    assert np.abs(pixels(out.encoded).astype(int) - np.asarray(picture(40, 90))).mean() < 4


@pytest.mark.parametrize("quality", [1, 5, 25, 50, 75, 95, 100])
def test_every_quality(transcoder: jpeg.Transcoder, quality: int) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 140, 3), dtype=np.uint8))
    check(transcoder, saved(image, quality=quality, subsampling=quality % 3))


@given(
    height=st.sampled_from([1, 7, 8, 9, 15, 16, 17, 33]),
    width=st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 65, 127, 128, 129, 257, 488, 500])),
    subsampling=st.integers(0, 2),
    grey=st.booleans(),
    restart=st.integers(0, 9),
)
@example(height=1, width=1, subsampling=2, grey=False, restart=0)
@example(height=9, width=12000, subsampling=0, grey=False, restart=1)
@settings(max_examples=scaled(40, 20), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_size(transcoder: jpeg.Transcoder, height: int, width: int, subsampling: int, grey: bool, restart: int) -> None:
    image = picture(height, width, 1 if grey else 3, seed=width)
    check(transcoder, saved(image, subsampling=subsampling, restart_marker_blocks=restart))


def test_difference_without_a_code_in_the_sources_table() -> None:
    rising = np.repeat(np.linspace(128, 250, 64).astype(np.uint8), 8)
    source = saved(Image.fromarray(np.tile(rising, (16, 1))), optimize=True)
    known = jpeg.read_header(source).huffman_tables[0]
    out = check(jpeg.Transcoder(optimize=False), source)
    assert set(jpeg.read_header(out.encoded).huffman_tables[0][16:]) > set(known[16:])


@needs_programs
def test_the_data_are_those_of_jpegtran() -> None:
    source = saved(picture(200, 512), quality=95, subsampling=2)
    out = jpeg.Transcoder(optimize=False).transcode(source)
    other = jpegtran(source, "-restart", f"{out.tiling.interval}B", "-copy", "none")
    header_bytes = jpeg.read_header(other).header_bytes
    assert out.encoded[out.tiling.header_bytes :] == other[header_bytes:]
    assert len(out.encoded) < 1.01 * len(source)


@needs_programs
@pytest.mark.parametrize("subsampling", [0, 2])
def test_optimized_is_as_small_as_jpegtrans(subsampling: int) -> None:
    source = saved(picture(375, 512), quality=95, subsampling=subsampling)
    out = check(jpeg.Transcoder(optimize=True), source)
    other = jpegtran(source, "-optimize", "-restart", f"{out.tiling.interval}B", "-copy", "none")
    assert len(out.encoded) <= 1.001 * len(other)


def test_each_tile_decodes_alone(transcoder: jpeg.Transcoder) -> None:
    source = saved(picture(60, 384), quality=92, subsampling=0)
    out = transcoder.transcode(source)
    tiling = out.tiling
    assert tiling.interval * tiling.mcu_width == 128
    starts = tiling.header_bytes + np.cumsum(tiling.lengths) - tiling.lengths
    head = bytearray(out.encoded[: tiling.header_bytes])
    frame = head.index(b"\xff\xc0")
    whole = pixels(source)
    for tile, (row, column) in enumerate(itertools.product(range(8), range(3))):
        part = whole[8 * row : 8 * row + 8, 128 * column : 128 * column + 128]
        struct.pack_into(">HH", head, frame + 5, *part.shape[:2])
        data = out.encoded[starts[tile] : starts[tile] + tiling.lengths[tile] - 2]
        np.testing.assert_array_equal(pixels(bytes(head) + data + b"\xff\xd9"), part)


def test_one_transcoder_serves_images_of_different_tables_and_sizes(transcoder: jpeg.Transcoder) -> None:
    for seed, (height, width) in enumerate([(200, 300), (16, 16), (333, 500), (8, 8)]):
        for optimize in (True, False):
            check(transcoder, saved(picture(height, width, seed=seed), quality=95 - 20 * seed, optimize=optimize))


def test_only_what_bears_on_pixels_is_kept(transcoder: jpeg.Transcoder) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    source = saved(picture(40, 40), exif=exif, comment=b"a comment", icc_profile=b"profile")
    out = check(transcoder, source[:-2] + b"\xff\xff\xff\xd9" + b"trailing bytes")  # fill bytes before a marker
    for dropped in (b"Exif", b"a comment", b"ICC", b"trailing"):
        assert dropped in source + b"trailing" and dropped not in out.encoded
    assert b"JFIF" in out.encoded


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
    plain = _in_three_scans(image, tmp_path / "scans") if kind == "three scans" else saved(image, **options)
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


def test_tiling_of_other_encoders_files() -> None:
    source = saved(picture(33, 100), subsampling=0, restart_marker_blocks=7)
    tiling = jpeg.tiling_of(source)
    assert (tiling.interval, len(tiling.lengths)) == (7, -(-13 * 5 // 7))
    assert tiling.header_bytes + tiling.lengths.sum() == len(source)
    whole = jpeg.tiling_of(saved(picture(33, 100), subsampling=2))
    assert (whole.interval, len(whole.lengths)) == (7 * 3, 1)
    for damaged in (source.replace(b"\xff\xd2", b"\xff\xd1"), source[:-2], source.replace(b"\xff\xd2", b"")):
        with pytest.raises(jpeg.NotTranscodable):
            jpeg.tiling_of(damaged)
    with pytest.raises(jpeg.NotTranscodable, match="progressive"):
        jpeg.tiling_of(saved(picture(33, 100), progressive=True))


@pytest.mark.parametrize(
    ("mcus_per_row", "mcu_width", "interval"),
    [(32, 16, 8), (63, 8, 21), (61, 8, 61), (1, 8, 1), (4, 16, 4), (16, 8, 16), (32, 8, 16), (1500, 8, 15), (31, 16, 31)],
)
def test_restart_interval(mcus_per_row: int, mcu_width: int, interval: int) -> None:
    assert jpeg.restart_interval(mcus_per_row, mcu_width) == interval


def test_unknown_subsampling_is_named() -> None:
    with pytest.raises(ValueError, match=r"4:3:3.*4:2:0"):
        jpeg.sampling_mcu("4:3:3")
