"""Restart markers of transcoded JPEGs: tiles that decode alone, data as jpegtran writes them, and where tiles begin."""

from __future__ import annotations

import itertools
import struct

import numpy as np
import pytest

from deit_fast.data.convert import transcode as jpeg
from tests.data.convert.jpegs import check, jpegtran, needs_programs, picture, pixels, saved


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
