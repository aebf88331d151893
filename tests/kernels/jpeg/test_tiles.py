"""Crops decoded from the tiles under them against the same crops of the whole image, bit for bit."""

import io

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from deit_fast.data.convert.transcode import Transcoded, Transcoder
from deit_fast.kernels.jpeg import tiles, turbojpeg
from tests.scale import scaled


def _transcoded(seed: int, height: int, width: int, subsampling: str) -> Transcoded:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 3 + 1, width // 3 + 1, 3), dtype=np.uint8)
    image = Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)
    file = io.BytesIO()
    if subsampling == "grey":
        image.convert("L").save(file, "JPEG", quality=90)
    else:
        image.save(file, "JPEG", quality=90, subsampling=subsampling)
    return Transcoder(optimize=False).transcode(file.getvalue())


def _grid(transcoded: Transcoded, **changes: int) -> tuple[int, ...]:
    tiling = transcoded.tiling
    facts = {"interval": tiling.interval, "num_tiles": len(tiling.lengths), "mcu_width": tiling.mcu_width}
    facts = facts | {"mcu_height": tiling.mcu_height, "width": transcoded.width, "height": transcoded.height} | changes
    grid: tuple[int, ...] = tiles.grid_of(*facts.values())
    return grid


def _decode(encoded: np.ndarray, height: int, width: int) -> np.ndarray:
    pixels = np.empty(height * width * 3, np.uint8)
    handles = turbojpeg.DecoderHandles(1)
    assert turbojpeg.decode_jpeg(handles.pointers, encoded, height, width, pixels) == turbojpeg.OK
    return pixels.reshape(height, width, 3)


def _cut(transcoded: Transcoded, grid: tuple[int, ...], block: tuple[int, ...], length_bytes: int = 2) -> np.ndarray:
    encoded = np.frombuffer(transcoded.encoded, np.uint8)
    lengths = np.frombuffer(transcoded.tiling.lengths.astype(f"<u{length_bytes}").tobytes(), np.uint8)
    out = np.full(len(encoded) + 16, 77, np.uint8)
    header_bytes = transcoded.tiling.header_bytes
    size = tiles.cut(encoded, header_bytes, lengths, length_bytes, grid, block, out[: len(encoded)])
    assert (out[len(encoded) :] == 77).all()
    return out[:size] if size >= 0 else np.empty(0, np.uint8)


@settings(max_examples=scaled(150, 20), deadline=None)
@given(
    seed=st.integers(0, 20),
    height=st.integers(1, 150),
    width=st.integers(1, 420),
    subsampling=st.sampled_from(["4:4:4", "4:2:2", "4:2:0", "grey"]),
    corners=st.tuples(*(st.floats(0, 1, exclude_max=True),) * 4),
    length_bytes=st.sampled_from([2, 4]),
)
@example(0, 40, 260, "4:2:0", (0.0, 0.5, 0.9999, 0.9999), 2)  # a sliver at the right edge
@example(0, 33, 388, "4:2:2", (0.1, 0.2, 0.995, 0.999), 2)
@pytest.mark.slow
def test_a_crop_from_tiles_equals_the_crop_of_the_whole(
    seed: int, height: int, width: int, subsampling: str, corners: tuple[float, ...], length_bytes: int
) -> None:
    transcoded = _transcoded(seed, height, width, subsampling)
    grid = _grid(transcoded)
    assert grid[0] > 0
    y0, y1 = sorted(int(corner * height) for corner in corners[:2])
    x0, x1 = sorted(int(corner * width) for corner in corners[2:])
    y1, x1 = y1 + 1, x1 + 1
    block = tiles.tiles_under(grid, y0, y1, x0, x1)
    top, left, part_height, part_width = tiles.pixels_of(grid, block)
    assert top <= y0 < y1 <= top + part_height
    assert left <= x0 < x1 <= left + part_width
    part = _decode(_cut(transcoded, grid, block, length_bytes), part_height, part_width)
    whole = np.asarray(Image.open(io.BytesIO(transcoded.encoded)).convert("RGB"))
    np.testing.assert_array_equal(part[y0 - top : y1 - top, x0 - left : x1 - left], whole[y0:y1, x0:x1])


def test_fewer_tiles_are_fewer_bytes() -> None:
    transcoded = _transcoded(1, 375, 500, "4:2:0")
    grid = _grid(transcoded)
    block = tiles.tiles_under(grid, 100, 200, 130, 250)
    assert tiles.num_tiles_of(block) == 7 * 1  # rows 6 to 12 of 16 pixels, the second column of 128
    part = _cut(transcoded, grid, block)
    assert len(part) < 0.12 * len(transcoded.encoded)


def test_an_index_that_does_not_fit_the_image_gives_no_tiles() -> None:
    transcoded = _transcoded(1, 64, 200, "4:2:0")
    for name, value in (("interval", 0), ("interval", 5), ("num_tiles", 3), ("mcu_width", 0), ("height", 65)):
        assert _grid(transcoded, **{name: value})[0] == 0


@pytest.mark.parametrize("change", ["lengths", "frame", "marker"])
def test_tiles_that_are_not_where_they_should_be_are_refused(change: str) -> None:
    transcoded = _transcoded(1, 64, 260, "4:4:4")
    grid = _grid(transcoded)
    encoded = bytearray(transcoded.encoded)
    lengths = transcoded.tiling.lengths.copy()
    if change == "lengths":
        lengths[2] += len(encoded)
    elif change == "frame":
        at = encoded.index(b"\xff\xc0")
        encoded[at + 1] = 0xC5
    else:
        encoded[transcoded.tiling.header_bytes + int(lengths[0]) - 2] = 0
    tiling = Transcoded.__dataclass_fields__  # a changed copy of what conversion gave
    damaged = Transcoded(**{name: getattr(transcoded, name) for name in tiling} | {"encoded": bytes(encoded)})
    object.__setattr__(damaged.tiling, "lengths", lengths)
    assert len(_cut(damaged, grid, (0, 8, 0, 1), 4)) == 0


def test_sides_of_tiles_at_edges() -> None:
    grid = (8, 16, 16, 500, 375)  # four columns of 128 pixels, 24 rows of 16
    assert tiles.tiles_under(grid, 0, 375, 0, 500) == (0, 24, 0, 4)
    assert tiles.tiles_under(grid, 16, 32, 128, 256) == (0, 3, 0, 3)  # touches its edges: chroma of the neighbours
    assert tiles.tiles_under(grid, 17, 31, 129, 255) == (1, 2, 1, 2)
    assert tiles.tiles_under((16, 8, 8, 500, 375), 16, 24, 128, 256) == (2, 3, 1, 2)  # 4:4:4 has none
    assert tiles.pixels_of(grid, (23, 24, 3, 4)) == (368, 384, 7, 116)
