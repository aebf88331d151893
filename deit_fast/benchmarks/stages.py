"""Makes each stage of the data path a function that processes some images of a beton once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from deit_fast.augment.cropping import train_cropping
from deit_fast.augment.policy import parse
from deit_fast.config import AugmentConfig, UserError
from deit_fast.data.format.beton import JPEG_MODE
from deit_fast.data.load.decode import Images, ViewDecoder
from deit_fast.data.load.memory import empty_lines
from deit_fast.kernels import crop, erase, finish, mix, operations, policy, resample, rng
from deit_fast.kernels.decode import STORED_LENGTH
from deit_fast.kernels.jpeg.turbojpeg import OK, JpegDecoder
from deit_fast.kernels.operation_table import CODES, OPERATIONS, Operation
from deit_fast.kernels.resample import FILTERS
from deit_fast.kernels.round import PRECISIONS

_SEED = np.uint64(0)
_FILL = (124, 116, 104)


@dataclass(frozen=True, eq=False)
class StageInput:
    """Input of the stages. Image i is `samples[i]` of the set: its stored bytes, its pixels, its view of the recipe.

    pixels: (height, width, 3) uint8 each; ids (n,) uint64; plans (n, PLAN_LENGTH) int64, see `kernels.crop`; views (n,
    resolution, resolution, 3) uint8.
    """

    images: Images
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


def stage_input(images: Images, count: int, resolution: int, interpolation: str, augment: AugmentConfig) -> StageInput:
    """Up to `count` images, spread evenly over all, with the results of each stage that later stages need.

    Only JPEGs if there are any, so that all stages work on the same images. Raises UserError if one does not decode.
    """
    beton = images.beton
    jpegs = np.flatnonzero(beton.modes == JPEG_MODE)
    candidates = jpegs if jpegs.size else np.arange(beton.num_samples)
    samples = candidates[np.linspace(0, len(candidates) - 1, min(count, len(candidates))).astype(np.int64)]
    decoder = JpegDecoder()
    stored, pixels = [], []
    for sample in samples:
        height, width = int(beton.heights[sample]), int(beton.widths[sample])
        stored.append(images.stored_bytes(int(sample)).tobytes())
        if beton.modes[sample] == JPEG_MODE:
            status, decoded = decoder.decode(stored[-1], height, width)
            if status != OK:
                raise UserError(f"{beton.name}: {beton.described(int(sample))} does not decode; `deit-fast verify` says more")
            pixels.append(decoded.copy())
        else:
            pixels.append(np.frombuffer(stored[-1], np.uint8).reshape(height, width, 3))
    decoder.close()
    ids = rng.pack_view_ids(0, samples.astype(np.uint64), np.zeros(len(samples), np.int64))
    plans = np.empty((len(samples), crop.PLAN_LENGTH), np.int64)
    heights, widths = beton.heights[samples].astype(np.int64), beton.widths[samples].astype(np.int64)
    crop.plan_views(_SEED, ids, train_cropping(augment, resolution, 1.0), heights, widths, resolution, plans)
    views = np.empty((len(samples), resolution, resolution, 3), np.uint8)
    given = StageInput(images, samples, stored, pixels, ids, plans, views, FILTERS[interpolation], augment)
    _resample(given)()
    return given


@contextmanager
def on_one_thread() -> Iterator[None]:
    """Inside the block, compiled functions run only on the calling thread."""
    num_threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        yield
    finally:
        numba.set_num_threads(num_threads)


def _read(given: StageInput) -> Callable[[], None]:
    stored = [given.images.stored_bytes(int(sample)) for sample in given.samples]
    into = np.empty(max(map(len, stored)), np.uint8)

    def run() -> None:
        for mapped in stored:
            np.copyto(into[: len(mapped)], mapped)

    return run


def _decode(given: StageInput) -> Callable[[], None] | None:
    if given.images.beton.modes[given.samples[0]] != JPEG_MODE:
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


def _crop(given: StageInput) -> Callable[[], None]:
    """Decoding and resampling together, as the loader does it: of JPEGs with tiles, those under the crop."""
    images = given.images
    decoder = ViewDecoder(images, given.views.shape[1], given.kind, num_workers=1)
    stored = np.empty((len(given.ids), STORED_LENGTH), np.int64)
    views, statuses = np.empty_like(given.views), np.empty(len(given.samples), np.int32)

    def run() -> None:
        images.locate(given.ids, stored)
        decoder.decode(given.ids, stored, given.plans, views, statuses)
        assert not statuses.any()

    return run


def _operation(operation: Operation) -> Stage:
    """Applies an operation of a policy to every view, each time to its former result."""

    def make(given: StageInput) -> Callable[[], None]:
        count, height, width = given.views.shape[:3]
        codes = np.full((count, 1), CODES[operation.name], np.int32)
        arguments = np.full((count, 1), operation.timed_with)
        scratch = np.empty((1, operations.scratch_bytes(height, width)), np.uint8)
        views = given.views.copy()
        is_bicubic = given.kind != FILTERS["bilinear"]

        def run() -> None:
            operations.apply_all(codes, arguments, is_bicubic, _FILL, views, scratch)

        return run

    return make


def _policy(given: StageInput) -> Callable[[], None] | None:
    """Draws and applies augment.auto_augment and augment.color_jitter for each view."""
    warp = "bilinear" if given.kind == FILTERS["bilinear"] else "bicubic"
    drawn = parse(given.augment.auto_augment, given.augment.color_jitter, warp)
    if not drawn.num_steps:
        return None
    count, height, width = given.views.shape[:3]
    codes, arguments = np.empty((count, drawn.num_steps), np.int32), np.empty((count, drawn.num_steps))
    scratch = np.empty((1, operations.scratch_bytes(height, width)), np.uint8)
    views = np.empty_like(given.views)

    def run() -> None:
        # fresh views: a policy applied to its own results ends in black and white, where some operations are cheaper
        np.copyto(views, given.views)
        policy.draw_steps(_SEED, given.ids, drawn, height, width, codes, arguments)
        operations.apply_all(codes, arguments, warp == "bicubic", _FILL, views, scratch)

    return run


def _finish(kind: int, erase_probability: float, precision: str) -> Stage:
    """Normalising, with or without mixing and erasing, to a type."""

    def make(given: StageInput) -> Callable[[], None]:
        count, height, width = given.views.shape[:3]
        mixed = mix.unmixed(count)
        if kind != mix.PLAIN:
            partner = (np.arange(count) + count // 2) % count
            box = np.tile(np.array([height // 4, 3 * height // 4, width // 4, 3 * width // 4]), (count, 1))
            mixed = mix.Mix(partner, np.full(count, kind), np.full(count, 0.7), box)
        boxes = np.zeros((count, 4), np.int64)
        erase.draw_boxes(_SEED, given.ids, erase_probability, height, width, boxes)
        mean, std = np.array(given.augment.mean), np.array(given.augment.std)
        images = empty_lines(given.views.shape, np.float32 if precision == "float32" else np.uint16)
        how = (erase.PIXEL, mean, std, PRECISIONS[precision], 1)

        def run() -> None:
            finish.finish_views(given.views, given.ids, _SEED, mixed, boxes, *how, images)

        return run

    return make


# in the order of the path; each works on what the ones before leave
STAGES: dict[str, Stage] = {
    "read": _read,
    "decode whole": _decode,
    "resample": _resample,
    "decode crop, resample": _crop,
    **{operation.name: _operation(operation) for operation in OPERATIONS},
    "policy": _policy,
    "finish": _finish(mix.PLAIN, 0.0, "float32"),
    "finish, mixup": _finish(mix.MIXUP, 0.0, "float32"),
    "finish, cutmix": _finish(mix.CUTMIX, 0.0, "float32"),
    "finish, mixup, erasing": _finish(mix.MIXUP, 0.25, "float32"),
    "finish, bfloat16": _finish(mix.PLAIN, 0.0, "bfloat16"),
    "finish, float16": _finish(mix.PLAIN, 0.0, "float16"),
}
