"""Compares our decoded images and crops with Pillow's."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from deit_fast.benchmarks.fidelity.crops import GivenCrop
from deit_fast.benchmarks.fidelity.material import Material, Pair, Row
from deit_fast.config import AugmentConfig
from deit_fast.data.format.beton import Beton, open_beton
from deit_fast.data.load.decode import ViewDecoder, images_of
from deit_fast.kernels import crop, resample, rng
from deit_fast.kernels.decode import STORED_LENGTH
from deit_fast.kernels.jpeg.turbojpeg import OK, JpegDecoder

_RECIPE = AugmentConfig()
_RESOLUTION = 64
_SMALL_RESOLUTION = 32  # where boxes are to be larger than views
_VIEWS = 3  # of each image; they are decoded together or apart, whichever is less
_IMAGES_AT_ONCE = 64


def pillows(jpeg: bytes) -> Image.Image:
    """A JPEG as Pillow decodes it, in RGB."""
    with Image.open(io.BytesIO(jpeg)) as image:
        return image.convert("RGB")


def _whole_images(material: Material, generator: np.random.Generator) -> Iterator[Pair]:
    beton, decoder = open_beton(material.beton), JpegDecoder()
    memory = np.memmap(material.beton, np.uint8, "r")
    try:
        for sample, jpeg in enumerate(material.jpegs):
            start, size = int(beton.offsets[sample]), int(beton.sizes[sample])
            height, width = int(beton.heights[sample]), int(beton.widths[sample])
            status, pixels = decoder.decode(memory[start : start + size].tobytes(), height, width)
            assert status == OK
            yield pixels, np.asarray(pillows(jpeg))
    finally:
        decoder.close()


class _Decoder:
    """The loader's way from a beton to views, one batch after another."""

    def __init__(self, material: Material, resolution: int) -> None:
        self.beton = open_beton(material.beton)
        self._resolution = resolution
        self._images = images_of(self.beton)

    def views(self, ids: NDArray[np.uint64], plans: NDArray[np.int64], *, dct_scaling: bool = False) -> NDArray[np.uint8]:
        """(B, resolution, resolution, 3) uint8 of view ids (B,) and plans (B, PLAN_LENGTH), bicubic."""
        decoder = ViewDecoder(self._images, self._resolution, resample.BICUBIC, dct_scaling=dct_scaling, num_workers=1)
        stored = np.empty((len(ids), STORED_LENGTH), np.int64)
        views = np.empty((len(ids), self._resolution, self._resolution, 3), np.uint8)
        statuses = np.empty(len(ids), np.int32)
        self._images.locate(ids, stored)
        decoder.decode(ids, stored, plans, views, statuses)
        assert not statuses.any()
        return views


def _cut_outs(material: Material, generator: np.random.Generator) -> Iterator[Pair]:
    """Squares of the image, as they are: what is compared is decoding alone."""
    decoder, side = _Decoder(material, _SMALL_RESOLUTION), _SMALL_RESOLUTION
    for sample, jpeg in enumerate(material.jpegs):
        pixels = np.asarray(pillows(jpeg))
        height, width = pixels.shape[:2]
        if min(height, width) < side:
            continue
        plans = np.zeros((_VIEWS, crop.PLAN_LENGTH), np.int64)
        for plan in plans:
            plan[:6] = (generator.integers(height - side + 1), generator.integers(width - side + 1), side, side, side, side)
        ids = rng.pack_view_ids(0, np.full(_VIEWS, sample, np.uint64), np.arange(_VIEWS))
        for plan, view in zip(plans, decoder.views(ids, plans), strict=True):
            yield view, pixels[plan[0] : plan[0] + side, plan[1] : plan[1] + side]


def random_batches(
    material: Material, beton: Beton, num_views: int, resolution: int
) -> Iterator[tuple[NDArray[np.uint64], NDArray[np.int64]]]:
    """View ids (B,) of num_views of each JPEG, and plans (B, PLAN_LENGTH) of random resized crops without flips."""
    cropping = crop.cropping(crop.RANDOM, scale=_RECIPE.crop_scale, ratio=_RECIPE.crop_ratio)
    for first in range(0, len(material.jpegs), _IMAGES_AT_ONCE):
        samples = np.arange(first, min(first + _IMAGES_AT_ONCE, len(material.jpegs)))
        shown = np.repeat(samples, num_views)
        ids = rng.pack_view_ids(1, shown.astype(np.uint64), np.tile(np.arange(num_views), len(samples)))
        plans = np.empty((len(ids), crop.PLAN_LENGTH), np.int64)
        heights, widths = beton.heights[shown].astype(np.int64), beton.widths[shown].astype(np.int64)
        crop.plan_views(np.uint64(material.seed), ids, cropping, heights, widths, resolution, plans)
        yield ids, plans


def reference(material: Material, view_id: np.uint64, plan: NDArray[np.int64]) -> NDArray[np.uint8]:
    """The view of a plan by Pillow and timm, bicubic."""
    return np.asarray(GivenCrop(plan, "bicubic")(pillows(material.jpegs[int(rng.sample_of(view_id))])))


def _random_views(material: Material, generator: np.random.Generator, resolution: int, dct_scaling: bool) -> Iterator[Pair]:
    """Random resized crops; with dct_scaling only those that are then decoded at a smaller size."""
    decoder = _Decoder(material, resolution)
    # one view of an image where scaled ones are wanted: several that are decoded together share one scale
    for ids, plans in random_batches(material, decoder.beton, 1 if dct_scaling else _VIEWS, resolution):
        views = decoder.views(ids, plans, dct_scaling=dct_scaling)
        for view_id, plan, view in zip(ids, plans, views, strict=True):
            if not dct_scaling or min(plan[2], plan[3]) >= 2 * resolution:
                yield view, reference(material, view_id, plan)


ROWS = (
    Row("whole image", "Pillow", _whole_images),
    Row("crop, of which only the tiles under it are decoded", "Pillow", _cut_outs),
    Row(
        "random resized crop from tiles, bicubic",
        "Pillow, timm",
        partial(_random_views, resolution=_RESOLUTION, dct_scaling=False),
    ),
    Row(
        "the same, DCT-scaled where the box is twice the view or more (data.dct_scaling, off by default)",
        "Pillow, timm",
        partial(_random_views, resolution=_SMALL_RESOLUTION, dct_scaling=True),
        max_wanted=None,
    ),
)
