"""Takes an image folder of photographs, gives milliseconds an image on one core: transcoding and resampling, and others'.

single_core.py PHOTOS
"""

from __future__ import annotations

import io
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
from PIL import Image

from deit_fast.augment import resample
from deit_fast.config import SourceConfig
from deit_fast.data.jpeg import Transcoder
from deit_fast.data.sources import open_source

NUM_IMAGES = 200


def main(photos: str) -> None:
    source = open_source(SourceConfig(path=photos, subset=NUM_IMAGES))
    copying, optimizing = Transcoder(optimize=False), Transcoder(optimize=True)

    def pillow_decode(encoded: bytes) -> None:
        Image.open(io.BytesIO(encoded)).load()

    def jpegtran(encoded: bytes) -> None:
        subprocess.run(["jpegtran", "-copy", "none", "-restart", "8B"], input=encoded, stdout=subprocess.DEVNULL, check=True)

    pixels = np.asarray(Image.fromarray(np.zeros((1, 1, 3), np.uint8)))
    sizes = resample.scratch_sizes(500, 500, 256)
    scratch = tuple(np.empty(size, dtype) for size, dtype in zip(sizes, (np.uint8, np.int32, np.int32), strict=True))

    def resized(encoded: bytes) -> None:
        height, width = pixels.shape[:2]
        view = np.empty((256 * height // 500, 256 * width // 500, 3), np.uint8)
        plan = (0, 0, height, width, *view.shape[:2], 0, 0)
        resample.resample(pixels, plan, resample.BICUBIC, False, *scratch, view)

    def pillow_resized(encoded: bytes) -> None:
        image.resize((256 * image.width // 500, 256 * image.height // 500), Image.Resampling.BICUBIC)

    ways: dict[str, Callable[[bytes], object]] = {
        "transcoded, bits copied": copying.transcode,
        "transcoded, shortest tables": optimizing.transcode,
        "decoded by Pillow": pillow_decode,
        "jpegtran, a process": jpegtran,
        "resampled to 256": resized,
        "resampled to 256 by Pillow": pillow_resized,
    }
    milliseconds: dict[str, list[float]] = {name: [] for name in ways}
    for sample in range(-3, source.num_samples):  # the first three are warm-up
        encoded = bytes(source.read(abs(sample)))
        image = Image.open(io.BytesIO(encoded)).convert("RGB")
        pixels = np.array(image)
        for name, way in ways.items():
            started = time.perf_counter()
            way(encoded)
            if sample >= 0:
                milliseconds[name].append(1000 * (time.perf_counter() - started))
    for name, values in milliseconds.items():
        low, *_, high = statistics.quantiles(values, n=10)
        print(f"{name:28} {statistics.median(values):6.3f} ms   ({low:.3f} to {high:.3f}, 10 % to 90 %)")


if __name__ == "__main__":
    main(sys.argv[1])
