"""Windows of JPEGs without tiles, decoded two at once, against libjpeg's pixels of the whole, and with changed bytes."""

from __future__ import annotations

import functools
import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from deit_fast.kernels.jpeg import decode_image, turbojpeg
from deit_fast.kernels.jpeg.decode_image import ImageDecoder, Window
from deit_fast.kernels.jpeg.decode_pair import finish_either, finish_one
from deit_fast.kernels.jpeg.decode_scratch import scratch_bytes
from tests.guarded import GuardedMemory
from tests.kernels.jpeg.test_decode_image import saved
from tests.scale import scaled

_SIDES = st.one_of(st.integers(5, 50), st.sampled_from([127, 128, 129, 200]))


@st.composite
def _images(draw: st.DrawFn) -> tuple[bytes, int, int, Window]:
    """(JPEG, height, width, window of it)."""
    height, width = draw(_SIDES), draw(_SIDES)
    how = {"quality": draw(st.integers(1, 100)), "subsampling": draw(st.integers(0, 2)), "optimize": draw(st.booleans())}
    rows, columns = (
        sorted(draw(st.lists(st.integers(0, size), min_size=2, max_size=2, unique=True))) for size in (height, width)
    )
    return saved(height, width, draw(st.booleans()), **how), height, width, (rows[0], rows[1], columns[0], columns[1])


def _pixels(encoded: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


def _check(decoder: ImageDecoder, image: tuple[bytes, int, int, Window]) -> None:
    encoded, height, width, (y0, y1, x0, x1) = image
    np.testing.assert_array_equal(decoder.image(height, width)[y0:y1, x0:x1], _pixels(encoded)[y0:y1, x0:x1])


@given(images=st.lists(_images(), min_size=1, max_size=5))
@settings(max_examples=scaled(400, 40), deadline=None)
def test_windows_have_the_pixels_of_the_whole_image(images: list[tuple[bytes, int, int, Window]]) -> None:
    """Where one of two ends, the next takes its place. All of it has shown 400 lists of images."""
    pair = ImageDecoder(), ImageDecoder()
    begun: dict[int, int] = {}
    for position, image in enumerate(images):
        number = 1 if 0 in begun else 0
        assert pair[number].begin(*image)
        begun[number] = position
        if len(begun) == 2:
            which, is_sound = finish_one(*pair)
            assert is_sound
            _check(pair[which], images[begun.pop(which)])
    for number, position in begun.items():
        assert pair[number].finish()
        _check(pair[number], images[position])


def _damaged(encoded: bytes, share: float) -> bytes:
    """The JPEG with ones, which are no code, for the rest of its data behind a share of them, and an end marker."""
    start = encoded.index(b"\xff\xda") + 14
    place = start + int(share * (len(encoded) - start))
    return encoded[:place] + b"\xff\x00" * ((len(encoded) - place - 2) // 2) + b"\xff\xd9"


@pytest.mark.parametrize("bad", [0, 1])
def test_one_that_is_damaged_leaves_the_other_alone(bad: int) -> None:
    sound, window = saved(150, 200, quality=90), (30, 120, 50, 150)
    broken = _damaged(sound, 0.3)
    pair = ImageDecoder(), ImageDecoder()
    for number, decoder in enumerate(pair):
        assert decoder.begin(broken if number == bad else sound, 150, 200, window)
    assert finish_one(*pair) == (bad, False)
    assert pair[1 - bad].finish()
    _check(pair[1 - bad], (sound, 150, 200, window))


def test_damage_below_the_window() -> None:
    """It is not noticed, but a file that was cut off there is."""
    encoded, window = saved(200, 150, quality=90), (10, 90, 0, 150)
    decoder = ImageDecoder()
    damaged = _damaged(encoded, 0.8)
    assert decoder.decode(damaged, 200, 150) is None
    assert decoder.begin(damaged, 200, 150, window)
    assert decoder.finish()
    _check(decoder, (encoded, 200, 150, window))
    for num_bytes in (1, 2, 3, 50):
        assert not decoder.begin(encoded[:-num_bytes], 200, 150, window)


@functools.cache
def _room() -> list[tuple[GuardedMemory, GuardedMemory, GuardedMemory]]:
    return [(GuardedMemory(1 << 20), GuardedMemory(1 << 20), GuardedMemory(1 << 20)) for _ in range(2)]


def test_mutated_bytes() -> None:
    """A pair of mutants: not shown, or shown as TurboJPEG does without a warning; nothing outside the arrays is touched.

    All of it has shown 20,000 mutants.
    """
    sources = [saved(24, 40, False, quality=85), saved(40, 24, True, quality=60)]
    sizes, generator = [(24, 40), (40, 24)], np.random.default_rng(0)
    handles, wanted = turbojpeg.DecoderHandles(1), np.empty(24 * 40 * 3, np.uint8)
    num_shown = 0
    for _ in range(scaled(10000, 200)):
        begun = []
        for source, (height, width), (memory, scratch_memory, pixel_memory) in zip(sources, sizes, _room(), strict=True):
            mutant = bytearray(source)
            for _ in range(generator.integers(0, 3)):
                mutant[int(generator.integers(source.index(b"\xff\xda"), len(mutant)))] = generator.integers(0, 256)
            data = memory.array(len(mutant), np.uint8)
            data[:] = np.frombuffer(bytes(mutant), np.uint8)
            data.flags.writeable = False
            scratch = scratch_memory.array(scratch_bytes(width, len(mutant)) // 8, np.uint64, fill=0xAAAA).view(np.uint8)
            pixels = pixel_memory.array(height * width * 3, np.uint8)
            whole = (0, height, 0, width)
            if decode_image.begin_image(data, height, width, whole, scratch, pixels):
                begun.append((data, (height, width), scratch, pixels))
        while begun:
            if len(begun) == 2:
                which, status = finish_either(*begun[0][2:], *begun[1][2:])
            else:
                which, status = 0, decode_image.finish_image(*begun[0][2:])
            data, size, _, pixels = begun.pop(which)
            if status == decode_image.OK:
                num_shown += 1
                assert turbojpeg.decode_jpeg(handles.pointers, data, *size, wanted) == turbojpeg.OK
                np.testing.assert_array_equal(pixels, wanted)
    assert num_shown > 0


def test_two_that_are_damaged_alike() -> None:
    """They are decoded in step, so that both break at once."""
    sound, generator, num_refused = saved(48, 64, quality=85), np.random.default_rng(0), 0
    for _ in range(scaled(3000, 300)):
        mutant = bytearray(sound)
        mutant[int(generator.integers(sound.index(b"\xff\xda") + 14, len(sound) - 2))] ^= 1 << int(generator.integers(8))
        pair = ImageDecoder(), ImageDecoder()
        are_begun = [decoder.begin(bytes(mutant), 48, 64, (0, 16, 0, 64)) for decoder in pair]
        if all(are_begun):
            first, is_sound = finish_one(*pair)
            assert pair[1 - first].finish() == is_sound
            num_refused += not is_sound
    assert num_refused > 0
