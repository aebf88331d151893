"""Takes some images of a beton, gives each stage of the data path as a function that takes all of them through it once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from deit_fast.augment import crop, finish, resample, rng
from deit_fast.augment.resample import FILTERS
from deit_fast.config import AugmentConfig, UserError
from deit_fast.data.beton import JPEG_MODE, Beton
from deit_fast.data.turbojpeg import OK, JpegDecoder

_SEED = np.uint64(0)
_NO_PADDING = -1  # crops of random area and aspect ratio


@dataclass(frozen=True, eq=False)
class StageInput:
    """What the stages work on. Image i is `samples[i]` of the beton: its stored bytes, its pixels, its view of the recipe.

    pixels: (height, width, 3) uint8 each; ids (n,) uint64; plans (n, PLAN_LENGTH) int64, see `augment.crop`; views (n,
    resolution, resolution, 3) uint8.
    """

    beton: Beton
    samples: NDArray[np.int64]
    stored: list[bytes]
    pixels: list[NDArray[np.uint8]]
    ids: NDArray[np.uint64]
    plans: NDArray[np.int64]
    views: NDArray[np.uint8]
    kind: int
    augment: AugmentConfig


# makes the function, or None where the beton has nothing for it to do
Stage = Callable[[StageInput], Callable[[], None] | None]


def stage_input(beton: Beton, count: int, resolution: int, interpolation: str, augment: AugmentConfig) -> StageInput:
    """Up to `count` images, evenly from the whole beton, taken through the path as far as later stages want them.

    Only JPEGs, where the beton has any: all stages then work on the same images. Raises UserError if one does not decode.
    """
    jpegs = np.flatnonzero(beton.modes == JPEG_MODE)
    candidates = jpegs if jpegs.size else np.arange(beton.num_samples)
    samples = candidates[np.linspace(0, len(candidates) - 1, min(count, len(candidates))).astype(np.int64)]
    memory = np.memmap(beton.path, np.uint8, "r")
    decoder = JpegDecoder()
    stored, pixels = [], []
    for sample in samples:
        start, size = int(beton.offsets[sample]), int(beton.sizes[sample])
        height, width = int(beton.heights[sample]), int(beton.widths[sample])
        stored.append(memory[start : start + size].tobytes())
        if beton.modes[sample] == JPEG_MODE:
            status, decoded = decoder.decode(stored[-1], height, width)
            if status != OK:
                raise UserError(f"{beton.path}: sample {sample} does not decode; `deit-fast verify` says more")
            pixels.append(decoded.copy())
        else:
            pixels.append(np.frombuffer(stored[-1], np.uint8).reshape(height, width, 3))
    decoder.close()
    ids = rng.pack_view_ids(0, samples.astype(np.uint64), np.zeros(len(samples), np.int64))
    plans = np.empty((len(samples), crop.PLAN_LENGTH), np.int64)
    scale, ratio, flip = augment.crop_scale, augment.crop_ratio, float(augment.flip)
    crop.plan_random_views(_SEED, ids, beton.heights, beton.widths, scale, ratio, _NO_PADDING, flip, resolution, plans)
    views = np.empty((len(samples), resolution, resolution, 3), np.uint8)
    given = StageInput(beton, samples, stored, pixels, ids, plans, views, FILTERS[interpolation], augment)
    _resample(given)()
    return given


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Compiled functions called in the block run on the calling thread alone."""
    num_threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(num_threads)


def _read(given: StageInput) -> Callable[[], None]:
    memory = np.memmap(given.beton.path, np.uint8, "r")
    places = [(int(given.beton.offsets[sample]), int(given.beton.sizes[sample])) for sample in given.samples]
    into = np.empty(max(size for _, size in places), np.uint8)

    def run() -> None:
        for start, size in places:
            np.copyto(into[:size], memory[start : start + size])

    return run


def _decode(given: StageInput) -> Callable[[], None] | None:
    if given.beton.modes[given.samples[0]] != JPEG_MODE:
        return None
    decoder = JpegDecoder()
    images = [(content, *pixels.shape[:2]) for content, pixels in zip(given.stored, given.pixels, strict=True)]

    def run() -> None:
        for content, height, width in images:
            decoder.decode(content, height, width)

    return run


def _resample(given: StageInput) -> Callable[[], None]:
    max_height, max_width = (max(image.shape[axis] for image in given.pixels) for axis in (0, 1))
    rows, integers = resample.scratch_sizes(max_height, max_width, given.views.shape[1])
    scratch = (np.empty(rows, np.uint8), np.empty(integers, np.int32))
    axes = [crop.axes(tuple(plan[:8].tolist()), 0, 0, 1) for plan in given.plans]
    flips = [bool(plan[8]) for plan in given.plans]

    def run() -> None:
        for image, of_image, is_flipped, view in zip(given.pixels, axes, flips, given.views, strict=True):
            resample.resample(image, *of_image, given.kind, is_flipped, *scratch, view)

    return run


def _finish(given: StageInput) -> Callable[[], None]:
    augment = given.augment
    count, height, width = given.views.shape[:3]
    alphas = (float(augment.mixup), float(augment.cutmix))
    probabilities = (float(augment.mix_probability), float(augment.cutmix_probability))
    mix = finish.mixing(_SEED, given.ids[0], count, height, width, augment.repeats, alphas, probabilities)
    mean, std = np.array(augment.mean), np.array(augment.std)
    images = np.empty(given.views.shape, np.float32)

    def run() -> None:
        finish.normalize_and_mix(given.views, mix, mean, std, images)

    return run


# in the order of the path; each works on what the ones before leave
STAGES: dict[str, Stage] = {
    "read": _read,
    "decode": _decode,
    "resample": _resample,
    "finish": _finish,
}
