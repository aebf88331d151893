"""Windows of stored JPEGs at half their size against libjpeg-turbo's, by Pillow's `draft`, bit for bit, and damaged ones."""

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from deit_fast.kernels.jpeg import tiles, turbojpeg
from deit_fast.kernels.jpeg.decode_window import DAMAGED, OK, UNSUPPORTED
from tests.kernels.jpeg.stored import KINDS, Stored, decode, indexed_anew, mutated_bytes, noise, stored_of, whole, window_of
from tests.scale import scaled


def _drafted(encoded: bytes) -> np.ndarray:
    """libjpeg-turbo's pixels at half size, rounded up."""
    image = Image.open(io.BytesIO(encoded))
    width, height = image.size
    image.draft(image.mode, (max(width // 2, 1), max(height // 2, 1)))
    assert image.size == (-(-width // 2), -(-height // 2))
    return np.asarray(image.convert("RGB"))


def _turbojpegs(stored: Stored) -> tuple[int, np.ndarray]:
    """Status and pixels at half size."""
    _, _, _, width, height = stored.grid
    handles = turbojpeg.DecoderHandles(1)
    pixels = np.empty((-(-height // 2), -(-width // 2), 3), np.uint8)
    source = np.frombuffer(stored.encoded, np.uint8)
    status = turbojpeg.decode_scaled(handles.pointers, 0, source, height, width, 2, pixels.reshape(-1))
    return int(status), pixels


@pytest.mark.slow
@settings(max_examples=scaled(200, 25), deadline=None)
@given(
    seed=st.integers(0, 1000),
    height=st.integers(2, 150),
    width=st.integers(5, 420),
    kind=st.sampled_from(["4:4:4", "4:2:0", "grey"]),
    quality=st.integers(1, 100),
    optimize=st.booleans(),
    corners=st.tuples(*(st.floats(0, 1, exclude_max=True),) * 4),
    margins=st.tuples(*(st.integers(0, 2),) * 4),
)
@example(1, 33, 389, "4:2:0", 100, True, (0.0, 0.5, 0.9999, 0.9999), (0, 0, 0, 0))  # a sliver at the right edge
@example(2, 17, 257, "4:4:4", 1, False, (0.1, 0.2, 0.995, 0.999), (1, 1, 1, 1))
def test_a_window_has_libjpegs_pixels(
    seed: int, height: int, width: int, kind: str, quality: int, optimize: bool, corners: tuple[float, ...],
    margins: tuple[int, ...],
) -> None:  # fmt: skip
    stored = stored_of(noise(seed, height, width, kind, quality), optimize=optimize)
    need, block = window_of(stored, height, width, corners, margins)
    y0, y1, x0, x1 = need
    status, pixels = decode(stored, block, need, 2)
    assert status == OK
    top, left, _, _ = tiles.pixels_of(stored.grid, block)
    rows, columns = slice(y0 // 2, (y1 + 1) // 2), slice(x0 // 2, (x1 + 1) // 2)
    window = pixels[rows.start - top // 2 : rows.stop - top // 2, columns.start - left // 2 : columns.stop - left // 2]
    np.testing.assert_array_equal(window, _drafted(stored.encoded)[rows, columns])


@pytest.mark.slow
@pytest.mark.parametrize("quality", [1, 30, 75, 100])
@pytest.mark.parametrize("kind", ["4:4:4", "4:2:0", "grey"])
def test_whole_images(kind: str, quality: int) -> None:
    for seed, (height, width) in enumerate([(2, 5), (8, 8), (16, 32), (17, 65), (99, 640), (240, 333)]):
        stored = stored_of(noise(seed, height, width, kind, quality), optimize=seed % 2 == 0)
        status, pixels = whole(stored, 2)
        assert status == OK
        np.testing.assert_array_equal(pixels, _drafted(stored.encoded))
        np.testing.assert_array_equal(pixels, _turbojpegs(stored)[1])


@pytest.mark.slow
def test_what_is_left_to_libjpeg() -> None:
    assert whole(stored_of(noise(3, 40, 300, "4:2:2", 90)), 2)[0] == UNSUPPORTED  # chroma is interpolated at half size too
    stored = stored_of(noise(3, 40, 300, "4:2:0", 90))
    assert whole(replace(stored, encoded=stored.encoded.replace(b"\xff\xc0", b"\xff\xc2", 1)), 2)[0] == UNSUPPORTED
    for size in (10, stored.header_bytes - 1):
        assert whole(replace(stored, encoded=stored.encoded[:size]), 2)[0] == UNSUPPORTED
    assert whole(replace(stored, encoded=stored.encoded[:-9]), 2)[0] == DAMAGED
    need = (0, 41, 0, 300)  # one row too many
    assert decode(stored, (0, stored.tile_rows, 0, stored.tile_columns), need, 2)[0] == UNSUPPORTED


@pytest.mark.slow
def test_mutated_jpegs_are_refused_or_have_libjpegs_pixels() -> None:
    """Where TurboJPEG refuses, so does this; where both take an image, its pixels are equal."""
    generator = np.random.default_rng(5)
    originals = [
        stored_of(noise(seed, 70, 270, kind, quality), optimize=seed % 2 == 0)
        for seed, kind in enumerate(KINDS * 2)
        for quality in (30, 95)
    ]
    outcomes = dict.fromkeys((OK, UNSUPPORTED, DAMAGED), 0)
    for round_number in range(scaled(4000, 1000)):
        stored = originals[round_number % len(originals)]
        other = originals[int(generator.integers(0, len(originals)))]
        changed = mutated_bytes(stored.encoded, stored.header_bytes, other.encoded[: other.header_bytes], generator)
        mutated = indexed_anew(stored, changed) if round_number % 3 else replace(stored, encoded=changed)
        if mutated is None:
            continue
        status, pixels = whole(mutated, 2)
        outcomes[status] += 1
        if status == OK:
            expected_status, expected = _turbojpegs(mutated)
            assert expected_status == turbojpeg.OK, round_number
            np.testing.assert_array_equal(pixels, expected, err_msg=str(round_number))
        need = *np.sort(generator.choice(71, 2, replace=False)), *np.sort(generator.choice(271, 2, replace=False))
        decode(mutated, tiles.tiles_under(mutated.grid, *need), need, 2)
    assert min(outcomes.values()) >= 15, outcomes
