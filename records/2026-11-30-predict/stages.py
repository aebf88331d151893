"""Time to decode a photograph for its evaluation view, by ways, in turns: one core, microseconds of processor time.

stages.py FOLDER SET.beton [NUMBER]: SET.beton is what `deit-fast write` makes of FOLDER. The mean of NUMBER images, the least
of eight rounds. Run from the project's root.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from deit_fast.data.convert.transcode import jpeg_size
from deit_fast.data.load.decode import ViewDecoder, open_images
from deit_fast.kernels import centre_view, crop, decode
from deit_fast.kernels.jpeg.decode_image import ImageDecoder
from deit_fast.kernels.jpeg.decode_pair import finish_one
from deit_fast.kernels.resample import BICUBIC, scratch_sizes

RESIZED, SIDE = 256, 224
number = int((*sys.argv[3:], "300")[0])
contents = [path.read_bytes() for path in sorted(Path(sys.argv[1]).rglob("*.jpg"))[:number]]
sizes = [jpeg_size(content)[::-1] for content in contents]
windows = [centre_view.window_of(*size, RESIZED, SIDE, BICUBIC) for size in sizes]
alone, pair = ImageDecoder(), (ImageDecoder(), ImageDecoder())
images = open_images(sys.argv[2])
decoder = ViewDecoder(images, SIDE, BICUBIC, num_workers=1)
ids, stored = np.arange(number, dtype=np.uint64), np.zeros((number, decode.STORED_LENGTH), np.int64)
images.locate(ids, stored)
plans = np.zeros((number, crop.PLAN_LENGTH), np.int64)
plans[:, :8] = [crop.resized_centre_crop(*size, RESIZED, SIDE) for size in sizes]
views, statuses = np.empty((number, SIDE, SIDE, 3), np.uint8), np.empty(number, np.int32)
rows, integers = scratch_sizes(max(max(size) for size in sizes), max(max(size) for size in sizes), SIDE)
scratch = np.empty(rows, np.uint8), np.empty(integers, np.int32)


def whole() -> None:
    for content, size in zip(contents, sizes, strict=True):
        assert alone.decode(content, *size) is not None


def window() -> None:
    for content, size, its_window in zip(contents, sizes, windows, strict=True):
        assert alone.begin(content, *size, its_window)
        assert alone.finish()


def two_windows() -> None:
    free = [1, 0]
    for content, size, its_window in zip(contents, sizes, windows, strict=True):
        assert pair[free.pop()].begin(content, *size, its_window)
        if not free:
            which, is_sound = finish_one(*pair)
            assert is_sound
            free.append(which)
    assert pair[1 - free.pop()].finish()


def resample() -> None:
    for size, view in zip(sizes, views, strict=True):
        centre_view.show(alone.image(*size), RESIZED, BICUBIC, *scratch, view)


def loader() -> None:
    decoder.decode(ids, stored, plans, views, statuses)
    assert not statuses.any()


ways: dict[str, Callable[[], None]] = {
    "whole file": whole,
    "window of a file": window,
    "windows of two files at once": two_windows,
    "resample": resample,
    "loader: decode tiles and resample": loader,
}
least: dict[str, float] = {}
for turn in range(9):  # the first does not count
    for name, way in ways.items():
        started = time.thread_time()
        way()
        if turn:
            least[name] = min(least.get(name, 1e9), time.thread_time() - started)
for name, seconds in least.items():
    print(f"{name:36}{seconds / number * 1e6:6.0f}")
seen = np.array([(y1 / height, (y1 - y0) * (x1 - x0) / height / width)
                 for (height, width), (y0, y1, x0, x1) in zip(sizes, windows, strict=True)]).mean(0)  # fmt: skip
print(f"rows down to the window's end {seen[0]:.3f}, pixels in the window {seen[1]:.3f} of the image")
