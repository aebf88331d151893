"""Transcoded JPEGs have the pixels of their sources, as Pillow and TurboJPEG decode both."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from deit_fast.data.convert import transcode as jpeg
from tests.data.convert.jpegs import check, cjpeg, in_three_scans, needs_programs, picture, pixels, saved
from tests.scale import scaled


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
    assert check(transcoder, in_three_scans(image, tmp_path / "scans")).way == "TurboJPEG"


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


def test_one_transcoder_serves_images_of_different_tables_and_sizes(transcoder: jpeg.Transcoder) -> None:
    for seed, (height, width) in enumerate([(200, 300), (16, 16), (333, 500), (8, 8)]):
        for optimize in (True, False):
            check(transcoder, saved(picture(height, width, seed=seed), quality=95 - 20 * seed, optimize=optimize))
