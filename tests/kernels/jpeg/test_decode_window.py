"""Windows of stored JPEGs against TurboJPEG's pixels of the whole image, bit for bit, and damaged ones against its refusals."""

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from deit_fast.kernels.jpeg import tiles, turbojpeg
from deit_fast.kernels.jpeg.decode_window import DAMAGED, OK, UNSUPPORTED, decode_window, scratch_bytes
from tests.kernels.jpeg.stored import (
    GUARD,
    KINDS,
    Stored,
    decode,
    indexed_anew,
    mutated_bytes,
    noise,
    reference,
    stored_of,
    whole,
    window_of,
)
from tests.scale import scaled


@settings(max_examples=scaled(200, 25), deadline=None)
@given(
    seed=st.integers(0, 1000),
    height=st.integers(1, 150),
    width=st.integers(5, 420),
    kind=st.sampled_from(KINDS),
    quality=st.integers(1, 100),
    optimize=st.booleans(),
    length_bytes=st.sampled_from([2, 4]),
    corners=st.tuples(*(st.floats(0, 1, exclude_max=True),) * 4),
    margins=st.tuples(*(st.integers(0, 2),) * 4),
)
@example(1, 33, 388, "4:2:0", 100, True, 2, (0.0, 0.5, 0.9999, 0.9999), (0, 0, 0, 0))  # a sliver at the right edge
@example(2, 17, 257, "4:2:2", 1, False, 2, (0.1, 0.2, 0.995, 0.999), (1, 1, 1, 1))
@pytest.mark.slow
def test_a_window_has_the_pixels_of_the_whole_image(
    seed: int, height: int, width: int, kind: str, quality: int, optimize: bool, length_bytes: int,
    corners: tuple[float, ...], margins: tuple[int, ...],
) -> None:  # fmt: skip
    stored = stored_of(noise(seed, height, width, kind, quality), optimize=optimize, length_bytes=length_bytes)
    need, block = window_of(stored, height, width, corners, margins)
    y0, y1, x0, x1 = need
    status, pixels = decode(stored, block, need)
    top, left, _, _ = tiles.pixels_of(stored.grid, block)
    expected = np.asarray(Image.open(io.BytesIO(stored.encoded)).convert("RGB"))
    assert status == OK
    np.testing.assert_array_equal(pixels[y0 - top : y1 - top, x0 - left : x1 - left], expected[y0:y1, x0:x1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("quality", [1, 30, 75, 100])
def test_whole_images(kind: str, quality: int) -> None:
    for seed, (height, width) in enumerate([(1, 5), (8, 8), (16, 32), (17, 65), (99, 640), (240, 333)]):
        stored = stored_of(noise(seed, height, width, kind, quality), optimize=seed % 2 == 0)
        status, pixels = whole(stored)
        assert status == OK
        np.testing.assert_array_equal(pixels, reference(stored)[1])


def test_sides_of_a_few_pixels_are_left_to_libjpeg() -> None:
    for width in range(1, 8):
        status, pixels = whole(stored := stored_of(noise(0, 9, width, "4:2:0", 90)))
        assert status == (UNSUPPORTED if width <= 4 else OK)
        assert status == UNSUPPORTED or np.array_equal(pixels, reference(stored)[1])


def _with_header(stored: Stored, old: bytes, new: bytes) -> Stored:
    assert stored.encoded.count(old, 0, stored.header_bytes) == 1
    return replace(
        stored,
        encoded=stored.encoded.replace(old, new, 1),
        header_bytes=stored.header_bytes + len(new) - len(old),
    )


def _segment(marker: int, data: bytes) -> bytes:
    return bytes((0xFF, marker)) + (len(data) + 2).to_bytes(2, "big") + data


def test_colour_spaces_as_libjpeg_guesses_them() -> None:
    stored = stored_of(noise(3, 40, 300, "4:4:4", 90))
    start = stored.encoded.index(b"\xff\xe0")
    jfif = stored.encoded[start : start + 18]
    adobe = b"Adobe\0\x64\0\0\0\0"
    for number, (segments, expected) in enumerate(
        (
            (b"", OK),
            (_segment(0xEE, adobe + b"\1"), OK),
            (_segment(0xEE, adobe + b"\0"), UNSUPPORTED),  # RGB
            (_segment(0xEE, adobe + b"\2"), UNSUPPORTED),  # libjpeg warns
            (jfif + _segment(0xEE, adobe + b"\0"), OK),  # JFIF is always YCbCr
            (jfif.replace(b"JFIF\0\1", b"JFIF\0\2"), UNSUPPORTED),  # libjpeg warns
            (_segment(0xFE, b"a comment") + jfif + _segment(0xE1, b"Exif\0\0"), OK),
        )
    ):
        other = _with_header(stored, jfif, segments)
        status, pixels = whole(other)
        assert status == expected, number
        assert status != OK or np.array_equal(pixels, reference(other)[1])


def test_components_named_rgb_are_left_to_libjpeg() -> None:
    stored = stored_of(noise(3, 40, 300, "4:4:4", 90))
    start = stored.encoded.index(b"\xff\xe0")
    encoded = bytearray(stored.encoded[:start] + stored.encoded[start + 18 :])
    frame, scan = encoded.index(b"\xff\xc0"), encoded.index(b"\xff\xda")
    for number, name in enumerate(b"RGB"):
        encoded[frame + 10 + 3 * number] = encoded[scan + 5 + 2 * number] = name
    other = replace(stored, encoded=bytes(encoded), header_bytes=stored.header_bytes - 18)
    assert whole(other)[0] == UNSUPPORTED
    assert reference(other)[0] == turbojpeg.OK


def test_other_kinds_are_left_to_libjpeg() -> None:
    stored = stored_of(noise(3, 40, 300, "4:2:0", 90))
    for old, new in (
        (b"\xff\xc0", b"\xff\xc2"),
        (b"\x03\x01\x22", b"\x03\x01\x12"),
        (b"\0\x3f\0", b"\0\x3e\0"),
        (b"\xff\xdd", b"\xff\xdc"),
    ):
        assert whole(_with_header(stored, old, new))[0] == UNSUPPORTED
    for size in range(stored.header_bytes):
        assert whole(replace(stored, encoded=stored.encoded[:size]))[0] == UNSUPPORTED


def test_an_index_that_does_not_fit_is_refused() -> None:
    stored = stored_of(noise(3, 64, 512, "4:2:0", 90))
    interval, mcu_width, mcu_height, width, height = stored.grid
    for grid in (
        (interval, mcu_width, mcu_height, width, height - 1),
        (interval, mcu_width, mcu_height, width - 1, height),
        (interval // 2, mcu_width, mcu_height, width, height),
        (interval, mcu_width // 2, mcu_height, width, height),
    ):
        assert whole(replace(stored, grid=grid))[0] in (DAMAGED, UNSUPPORTED)
    assert whole(replace(stored, header_bytes=stored.header_bytes + 1))[0] == UNSUPPORTED
    for change in (1, -1, 1 << 20, 1 << 31):
        lengths = np.frombuffer(stored.lengths, "<u4").astype(np.int64)
        lengths[3] += change
        assert whole(replace(stored, lengths=lengths.astype("<u4").tobytes()))[0] == DAMAGED
    other = np.frombuffer(stored.lengths, "<u4")[::-1].tobytes()
    assert whole(replace(stored, lengths=other))[0] == DAMAGED


@pytest.mark.slow
@pytest.mark.parametrize("is_indexed_anew", [True, False])
def test_mutated_jpegs_are_refused_or_have_libjpegs_pixels(is_indexed_anew: bool) -> None:
    """Where TurboJPEG refuses, so does this; where both take an image, its pixels are equal."""
    generator = np.random.default_rng(5)
    originals = [
        stored_of(noise(seed, 70, 270, kind, quality), optimize=seed % 2 == 0)
        for seed, kind in enumerate(KINDS * 2)
        for quality in (30, 95)
    ]
    outcomes = dict.fromkeys((OK, UNSUPPORTED, DAMAGED), 0)
    for round_number in range(2000):
        stored = originals[round_number % len(originals)]
        other = originals[int(generator.integers(0, len(originals)))]
        changed = mutated_bytes(stored.encoded, stored.header_bytes, other.encoded[: other.header_bytes], generator)
        mutated = indexed_anew(stored, changed) if is_indexed_anew else replace(stored, encoded=changed)
        if mutated is None:
            continue
        status, pixels = whole(mutated)
        expected_status, expected = reference(mutated)
        outcomes[status] += 1
        if status == OK:
            assert expected_status == turbojpeg.OK, round_number
            np.testing.assert_array_equal(pixels, expected, err_msg=str(round_number))
        # of a part of it nothing is compared: TurboJPEG's part may hold more than what is looked at here
        need = *np.sort(generator.choice(71, 2, replace=False)), *np.sort(generator.choice(271, 2, replace=False))
        decode(mutated, tiles.tiles_under(mutated.grid, *need), need)
    assert min(outcomes.values()) >= 15, outcomes


@pytest.mark.slow
def test_mutated_indices_do_no_harm() -> None:
    """Lengths, sizes and places that lie: refused, or the right pixels, and nothing is touched outside the arrays."""
    generator = np.random.default_rng(6)
    originals = [stored_of(noise(seed, 70, 270, kind, 80)) for seed, kind in enumerate(KINDS)]
    references = [reference(stored)[1] for stored in originals]
    outcomes = dict.fromkeys((OK, UNSUPPORTED, DAMAGED), 0)
    for round_number in range(2000):
        number = round_number % len(originals)
        stored = originals[number]
        need = [*np.sort(generator.choice(71, 2, replace=False)), *np.sort(generator.choice(271, 2, replace=False))]
        block = list(tiles.tiles_under(stored.grid, *need))
        lengths, grid = bytearray(stored.lengths), list(stored.grid)
        changed = stored
        match generator.integers(0, 7):
            case 0:
                for place in generator.integers(0, len(lengths), 2):
                    lengths[place] = generator.integers(0, 256)
            case 1:
                del lengths[int(generator.integers(0, len(lengths))) :]
            case 2:
                grid[generator.integers(0, 5)] = int(generator.choice([-1, 0, 1, 2, 4, 8, 16, 32, 71, 269, 540]))
            case 3:
                changed = replace(stored, length_bytes=int(generator.choice([2, 1, 0, -4, 8])))
            case 4:
                changed = replace(stored, header_bytes=stored.header_bytes + int(generator.choice([1, -1, -700, 1 << 31])))
            case 5:
                block[generator.integers(0, 4)] += int(generator.choice([-9, -1, 1, 9]))
            case _:
                need[generator.integers(0, 4)] += int(generator.choice([-70, -1, 1, 70]))
        changed = replace(changed, lengths=bytes(lengths))
        encoded = np.frombuffer(changed.encoded, np.uint8)
        size = scratch_bytes(540, len(encoded))
        scratch, pixels = np.full(size + GUARD, 77, np.uint8), np.full(3 * 70 * 270 + GUARD, 78, np.uint8)
        status = decode_window(
            encoded, changed.header_bytes, np.frombuffer(changed.lengths, np.uint8), changed.length_bytes, tuple(grid),
            tuple(block), tuple(need), scratch[:size], pixels[: 3 * 70 * 270],
        )  # fmt: skip
        assert (scratch[size:] == 77).all()
        assert (pixels[3 * 70 * 270 :] == 78).all()
        outcomes[status] += 1
        if status == OK:
            y0, y1, x0, x1 = need
            top, start, height, width = tiles.pixels_of(stored.grid, tuple(block))
            window = pixels[: 3 * height * width].reshape(height, width, 3)[y0 - top : y1 - top, x0 - start : x1 - start]
            np.testing.assert_array_equal(window, references[number][y0:y1, x0:x1], err_msg=str(round_number))
    assert min(outcomes.values()) >= 100, outcomes
