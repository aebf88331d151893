"""JPEGs of our own encoder against Pillow's, byte for byte."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from deit_fast.data.convert.transcode import restart_interval, sampling_mcu, tiling_of
from deit_fast.data.convert.transcode.encode import TileEncoder
from tests.scale import scaled


def _picture(height: int, width: int, seed: int, noise: float) -> np.ndarray:
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (height // 12 + 2, width // 12 + 2, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return np.clip(smooth + generator.normal(0, noise, smooth.shape), 0, 255).astype(np.uint8)


def _by_pillow(pixels: np.ndarray, quality: int, subsampling: str, *, optimize: bool = False) -> bytes:
    mcu_width, _ = sampling_mcu(subsampling)
    interval = restart_interval(-(-pixels.shape[1] // mcu_width), mcu_width)
    file = io.BytesIO()
    Image.fromarray(pixels).save(
        file, "JPEG", quality=quality, subsampling=subsampling, restart_marker_blocks=interval, optimize=optimize
    )
    return file.getvalue()


def _check(pixels: np.ndarray, quality: int, subsampling: str) -> None:
    encoded, tiling = TileEncoder(quality, subsampling, optimize=False).encode(pixels)
    assert encoded == _by_pillow(pixels, quality, subsampling)
    found = tiling_of(encoded)
    np.testing.assert_array_equal(tiling.lengths, found.lengths)
    assert (tiling.mcu_width, tiling.mcu_height, tiling.interval, tiling.header_bytes) == (
        found.mcu_width, found.mcu_height, found.interval, found.header_bytes,
    )  # fmt: skip


@given(
    height=st.one_of(st.integers(1, 40), st.sampled_from([63, 64, 65, 128])),
    width=st.one_of(st.integers(1, 40), st.sampled_from([127, 128, 129, 257, 500])),
    quality=st.integers(1, 100),
    subsampling=st.sampled_from(["4:4:4", "4:2:2", "4:2:0"]),
    noise=st.sampled_from([0.0, 5.0, 300.0]),
)
@example(height=1, width=1, quality=90, subsampling="4:2:0", noise=5.0)
@example(height=9, width=9000, quality=90, subsampling="4:4:4", noise=5.0)
@settings(max_examples=scaled(500, 50))
def test_bytes_are_those_of_pillow(height: int, width: int, quality: int, subsampling: str, noise: float) -> None:
    """All of it has shown 500 images."""
    _check(_picture(height, width, seed=height + 1000 * width, noise=noise), quality, subsampling)


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("quality", [1, 25, 75, 100])
def test_extreme_levels(quality: int, subsampling: str) -> None:
    """Blocks with the largest coefficients that there are, and colours at the corners of their cube."""
    y, x = np.mgrid[:48, :64]
    for pattern in ((x + y) % 2, x % 2, y % 2, (x // 4 + y // 4) % 2, x // 8 % 2, (x * y) % 2):
        _check(np.repeat((pattern * 255).astype(np.uint8)[..., None], 3, axis=2), quality, subsampling)
    corners = np.array([[r, g, b] for r in (0, 255) for g in (0, 255) for b in (0, 255)], np.uint8)
    _check(corners[np.random.default_rng(0).integers(0, 8, (40, 72))], quality, subsampling)


def test_colours_on_a_grid() -> None:
    levels = np.arange(0, 256, 3, dtype=np.uint8)
    colours = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 86, 3)
    _check(np.ascontiguousarray(colours), 100, "4:4:4")


def test_one_encoder_serves_images_of_different_sizes() -> None:
    encoder = TileEncoder(80, "4:2:0", optimize=False)
    for height, width in ((200, 300), (8, 8), (333, 500), (17, 16)):
        pixels = _picture(height, width, seed=width, noise=9.0)
        assert encoder.encode(pixels)[0] == _by_pillow(pixels, 80, "4:2:0")


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:0"])
def test_shortest_tables(subsampling: str) -> None:
    pixels = _picture(190, 250, seed=0, noise=5.0)
    encoded, tiling = TileEncoder(90, subsampling, optimize=True).encode(pixels)
    theirs = _by_pillow(pixels, 90, subsampling, optimize=True)
    ours, wanted = (np.asarray(Image.open(io.BytesIO(e))) for e in (encoded, theirs))
    np.testing.assert_array_equal(ours, wanted)
    assert len(encoded) <= 1.001 * len(theirs)
    np.testing.assert_array_equal(tiling.lengths, tiling_of(encoded).lengths)
