"""Decoding in several threads: Pillow's pixels, and Pillow's own settings as they were."""

from __future__ import annotations

import io
import logging
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from deit_fast.data.convert.decoder import PixelDecoder
from deit_fast.data.convert.pixels import BadImage
from deit_fast.data.convert.transcode import Transcoder


def encoded(seed: int, image_format: str, mode: str = "RGB") -> bytes:
    grey = np.random.default_rng(seed).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(grey).convert(mode).save(file, image_format)
    return file.getvalue()


KINDS = [("JPEG", "RGB"), ("JPEG", "CMYK"), ("JPEG", "L"), ("PNG", "RGBA"), ("GIF", "P"), ("BMP", "RGB"), ("TIFF", "RGB")]


def test_threads_decode_pillows_pixels_and_leave_its_settings() -> None:
    def settings() -> tuple[object, ...]:
        return Image.MAX_IMAGE_PIXELS, list(warnings.filters), list(logging.getLogger("PIL").handlers)

    def work(seed: int) -> None:
        transcoder = Transcoder(optimize=False)
        decoder = PixelDecoder(transcoder)
        for image_format, mode in KINDS:
            content = encoded(seed, image_format, mode)
            pixels, odd = decoder.pixels_of(content, "image")
            wanted = Image.open(io.BytesIO(content)).convert("RGB")
            np.testing.assert_array_equal(pixels, np.asarray(wanted))
            assert (odd is not None) is (mode in ("CMYK", "RGBA", "P"))
            with pytest.raises(BadImage, match=r"image: "):
                decoder.pixels_of(content[: len(content) // 3], "image")
        decoder.close()
        transcoder.close()

    before = settings()
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(12)))
    assert settings() == before


def test_an_image_with_more_pixels_than_allowed() -> None:
    transcoder = Transcoder(optimize=False)
    decoder = PixelDecoder(transcoder, max_pixels=2000)
    for image_format in ("JPEG", "PNG"):
        with pytest.raises(BadImage, match=r"big: .*pixels are more than 0.002 million"):
            decoder.pixels_of(encoded(0, image_format), "big")
    decoder.close()
    transcoder.close()
