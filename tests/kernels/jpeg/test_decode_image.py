"""Whole JPEGs as our own decoder shows them, against libjpeg, and with changed bytes."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from deit_fast.data.convert.transcode import Transcoder
from deit_fast.kernels.jpeg import decode_image, turbojpeg
from deit_fast.kernels.jpeg.decode_scratch import scratch_bytes
from tests.guarded import GuardedMemory
from tests.scale import scaled


def saved(height: int, width: int, grey: bool = False, **options: object) -> bytes:
    """A JPEG with noise."""
    generator = np.random.default_rng(height + 1000 * width)
    coarse = generator.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    image = Image.fromarray(np.clip(smooth + generator.normal(0, 9, smooth.shape), 0, 255).astype(np.uint8))
    file = io.BytesIO()
    (image.convert("L") if grey else image).save(file, "JPEG", **options)
    return file.getvalue()


@given(
    height=st.one_of(st.integers(1, 50), st.sampled_from([127, 128, 129, 375])),
    width=st.one_of(st.integers(5, 50), st.sampled_from([127, 128, 129, 500])),
    quality=st.integers(1, 100),
    subsampling=st.integers(0, 2),
    grey=st.booleans(),
    optimize=st.booleans(),
)
@example(height=9, width=9000, quality=90, subsampling=2, grey=False, optimize=False)
@settings(max_examples=scaled(400, 40))
def test_pixels_are_those_of_pillow(
    height: int, width: int, quality: int, subsampling: int, grey: bool, optimize: bool
) -> None:
    """All of it has shown 400 images."""
    encoded = saved(height, width, grey, quality=quality, subsampling=subsampling, optimize=optimize)
    pixels = decode_image.ImageDecoder().decode(encoded, height, width)
    assert pixels is not None
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB")))


def test_a_window_that_is_none_is_refused() -> None:
    plain, decoder = saved(40, 60), decode_image.ImageDecoder()
    assert decoder.begin(plain, 40, 60, (0, 40, 0, 60))
    for window in [(0, 41, 0, 60), (-1, 40, 0, 60), (5, 5, 0, 60), (0, 40, 0, 61), (0, 40, 7, 6)]:
        assert not decoder.begin(plain, 40, 60, window)


def test_what_is_left_to_turbojpeg() -> None:
    plain = saved(40, 60, subsampling=2)
    cases = {
        "restart markers": saved(40, 60, restart_marker_blocks=3),
        "progressive": saved(40, 60, progressive=True),
        "RGB": saved(40, 60, keep_rgb=True),
        "no end": plain[:-2],
        "cut": plain[:-30],
        "bytes left over": plain[:-2] + b"\xaa\xaa\xff\xd9",
        "empty": b"",
    }
    decoder = decode_image.ImageDecoder()
    assert decoder.decode(plain, 40, 60) is not None
    assert decoder.decode(plain, 40, 61) is None
    for name, encoded in cases.items():
        assert decoder.decode(encoded, 40, 60) is None, name
    assert decoder.decode(saved(40, 4, subsampling=2), 40, 4) is None


_ROOM = GuardedMemory(1 << 20), GuardedMemory(1 << 20), GuardedMemory(1 << 20)


@pytest.mark.parametrize("grey", [False, True])
def test_mutated_bytes(grey: bool) -> None:
    """Not shown, or shown as TurboJPEG does without a warning; nothing outside the arrays is touched.

    All of it has shown 20,000 mutants.
    """
    source = saved(24, 40, grey, quality=85)
    memory, scratch_memory, pixel_memory = _ROOM
    generator = np.random.default_rng(grey)
    handles, wanted = turbojpeg.DecoderHandles(1), np.empty(24 * 40 * 3, np.uint8)
    num_shown = 0
    for _ in range(scaled(10000, 200)):
        mutant = bytearray(source)
        for _ in range(generator.integers(1, 4)):
            place = int(generator.integers(2, len(mutant)))
            if generator.random() < 0.8:
                mutant[place] = generator.integers(0, 256)
            else:
                del mutant[place : place + int(generator.integers(1, 9))]
        data = memory.array(len(mutant), np.uint8)
        data[:] = np.frombuffer(bytes(mutant), np.uint8)
        data.flags.writeable = False
        scratch = scratch_memory.array(scratch_bytes(40, len(mutant)) // 8, np.uint64, fill=0xAAAA).view(np.uint8)
        pixels = pixel_memory.array(24 * 40 * 3, np.uint8)
        if decode_image.decode_image(data, 24, 40, scratch, pixels) == decode_image.OK:
            num_shown += 1
            assert turbojpeg.decode_jpeg(handles.pointers, data, 24, 40, wanted) == turbojpeg.OK
            np.testing.assert_array_equal(pixels, wanted)
    assert num_shown > 0


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("size", [(1, 5), (24, 40), (33, 127), (375, 500)])
def test_progressive_ones_by_their_coefficients(size: tuple[int, int], subsampling: int, grey: bool) -> None:
    encoded = saved(*size, grey, quality=90, subsampling=subsampling, progressive=True)
    found = Transcoder(optimize=False).sequential(encoded)
    assert found is not None
    pixels = decode_image.ImageDecoder().show(*found, *size)
    assert pixels is not None
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB")))
    assert decode_image.ImageDecoder().show(found[0], found[1][:-1], *size) is None
    y0, y1, x0, x1 = window = size[0] // 3, size[0] // 3 + 1, size[1] // 4, size[1] // 2
    decoder = decode_image.ImageDecoder()
    shown = decoder.show(*found, *size, window)
    assert shown is not None
    np.testing.assert_array_equal(shown[y0:y1, x0:x1], pixels[y0:y1, x0:x1])
