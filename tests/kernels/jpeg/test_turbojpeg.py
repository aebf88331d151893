"""Decoding against Pillow, and what is said of bytes that do not decode."""

import io

import numpy as np
import pytest
from PIL import Image

from deit_fast.kernels.jpeg import turbojpeg


def _jpeg(seed: int, height: int, width: int, **options: object) -> np.ndarray:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC).save(file, "JPEG", **options)
    return np.frombuffer(file.getvalue(), np.uint8)


def _decode(encoded: np.ndarray, height: int, width: int) -> tuple[int, np.ndarray]:
    handles = turbojpeg.DecoderHandles(1)
    pixels = np.full(height * width * 3 + 64, 77, np.uint8)
    status = turbojpeg.decode_jpeg(handles.pointers, encoded, height, width, pixels)
    assert (pixels[height * width * 3 :] == 77).all(), "written past the end"
    return status, pixels[: height * width * 3].reshape(height, width, 3)


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (17, 31), (120, 90)])
def test_pixels_equal_pillows(subsampling: int, progressive: bool, size: tuple[int, int]) -> None:
    encoded = _jpeg(0, *size, quality=90, subsampling=subsampling, progressive=progressive)
    status, pixels = _decode(encoded, *size)
    assert status == turbojpeg.OK
    np.testing.assert_array_equal(pixels, np.asarray(Image.open(io.BytesIO(encoded.tobytes()))))


def test_truncated_jpeg_is_reported() -> None:
    encoded = _jpeg(1, 64, 64)
    cut = encoded[: len(encoded) // 2].copy()
    status, _ = _decode(cut, 64, 64)
    assert status == turbojpeg.UNDECODABLE
    assert "Premature end" in turbojpeg.reason(status, cut, 64, 64)


def test_jpeg_of_another_size_is_reported() -> None:
    encoded = _jpeg(1, 64, 64)
    status, _ = _decode(encoded, 64, 32)
    assert status == turbojpeg.OTHER_SIZE
    assert turbojpeg.reason(status, encoded, 64, 32) == "the JPEG's own size is not 32x64"


def test_bytes_that_are_no_jpeg_are_reported() -> None:
    status, _ = _decode(np.arange(100, dtype=np.uint8), 8, 8)
    assert status == turbojpeg.UNREADABLE_HEADER
    assert turbojpeg.reason(status, np.arange(100, dtype=np.uint8), 8, 8)


def test_flipped_bytes_never_crash() -> None:
    encoded = _jpeg(2, 48, 48)
    generator = np.random.default_rng(0)
    reported = 0
    for _ in range(300):
        damaged = encoded.copy()
        damaged[generator.integers(0, len(damaged), 5)] = generator.integers(0, 256, 5)
        status, _ = _decode(damaged, 48, 48)
        if status != turbojpeg.OK:
            reported += 1
            assert turbojpeg.reason(status, damaged, 48, 48)
    assert reported > 100


def test_nothing_of_one_image_is_left_for_the_next() -> None:
    """libjpeg keeps tables for abbreviated JPEGs: without its own, an image would decode with those of another."""
    handles = turbojpeg.DecoderHandles(1)
    pixels = np.empty(48 * 48 * 3, np.uint8)
    content = _jpeg(3, 48, 48, quality=30).tobytes()
    start = content.index(b"\xff\xdb")
    length = int.from_bytes(content[start + 2 : start + 4])
    lacking = np.frombuffer(content[:start] + content[start + 2 + length :], np.uint8)
    assert not turbojpeg.is_self_contained(lacking)
    assert turbojpeg.decode_jpeg(handles.pointers, _jpeg(4, 48, 48), 48, 48, pixels) == turbojpeg.OK
    assert turbojpeg.decode_jpeg(handles.pointers, lacking, 48, 48, pixels) == turbojpeg.UNDECODABLE


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"subsampling": 0}])
def test_ordinary_jpegs_are_self_contained(options: dict[str, object]) -> None:
    assert turbojpeg.is_self_contained(_jpeg(0, 30, 40, **options))
    assert not turbojpeg.is_self_contained(_jpeg(0, 30, 40, progressive=True, **options))  # of several scans
