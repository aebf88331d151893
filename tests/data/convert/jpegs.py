"""JPEGs to transcode, what other programs make of them, and the check of a transcoded one against its source."""

from __future__ import annotations

import io
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from deit_fast.data.convert import transcode as jpeg
from deit_fast.kernels.jpeg import turbojpeg

needs_programs = pytest.mark.skipif(shutil.which("jpegtran") is None, reason="libjpeg-turbo-progs is not installed")


def picture(height: int, width: int, channels: int = 3, seed: int = 0) -> Image.Image:
    """Smooth shapes with some noise, somewhat like a photograph."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (height // 24 + 2, width // 24 + 2, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    noisy = np.clip(smooth + generator.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)
    return Image.fromarray(noisy if channels == 3 else noisy[..., 0])


def saved(image: Image.Image, **options: object) -> bytes:
    """The image as Pillow encodes it as JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def cjpeg(image: Image.Image, *arguments: str) -> bytes:
    """The image as libjpeg-turbo's cjpeg encodes it, for what Pillow cannot write."""
    file = io.BytesIO()
    image.save(file, "PPM")
    return subprocess.run(["cjpeg", *arguments], input=file.getvalue(), capture_output=True, check=True).stdout


def jpegtran(encoded: bytes, *arguments: str) -> bytes:
    return subprocess.run(["jpegtran", *arguments], input=encoded, capture_output=True, check=True).stdout


def pixels(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)))


def turbo_pixels(encoded: bytes) -> np.ndarray | None:
    """None: TurboJPEG knows only the usual sampling factors."""
    width, height = jpeg.jpeg_size(encoded)
    out = np.empty(height * width * 3, np.uint8)
    handles = turbojpeg.DecoderHandles(1)
    status = turbojpeg.decode_jpeg(handles.pointers, np.frombuffer(encoded, np.uint8), height, width, out)
    assert status in (turbojpeg.OK, turbojpeg.UNREADABLE_HEADER)
    return None if status == turbojpeg.UNREADABLE_HEADER else out.reshape(height, width, 3)


def check(transcoder: jpeg.Transcoder, source: bytes, *, is_usual: bool = True) -> jpeg.Transcoded:
    """Transcodes; the pixels are the source's, and the markers are where the tiling says."""
    out = transcoder.transcode(source)
    np.testing.assert_array_equal(pixels(out.encoded), pixels(source))
    from_source, from_out = turbo_pixels(source), turbo_pixels(out.encoded)
    assert from_source is not None or not is_usual
    assert (from_source is None) == (from_out is None)
    if from_source is not None and from_out is not None:
        np.testing.assert_array_equal(from_out, from_source)
    assert (out.width, out.height) == jpeg.jpeg_size(source) == Image.open(io.BytesIO(out.encoded)).size
    tiling = out.tiling
    mcus_per_row, num_rows = -(-out.width // tiling.mcu_width), -(-out.height // tiling.mcu_height)
    assert mcus_per_row % tiling.interval == 0
    assert tiling.interval == jpeg.restart_interval(mcus_per_row, tiling.mcu_width)
    ends = tiling.header_bytes + np.cumsum(tiling.lengths)
    assert len(ends) == mcus_per_row // tiling.interval * num_rows
    markers = [out.encoded[end - 2 : end] for end in ends]
    assert markers == [bytes((0xFF, 0xD0 + tile % 8)) for tile in range(len(ends) - 1)] + [b"\xff\xd9"]
    assert ends[-1] == len(out.encoded)
    found = jpeg.tiling_of(out.encoded)
    np.testing.assert_array_equal(found.lengths, tiling.lengths)
    assert (found.mcu_width, found.mcu_height, found.interval, found.header_bytes) == (
        tiling.mcu_width, tiling.mcu_height, tiling.interval, tiling.header_bytes,
    )  # fmt: skip
    return out


def in_three_scans(image: Image.Image, script: Path) -> bytes:
    """A sequential JPEG with a scan for each component. script: a file to write."""
    script.write_text("0;1;2;")
    return cjpeg(image, "-scans", str(script))
