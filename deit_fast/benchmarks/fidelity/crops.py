"""Compares our crops, resized and flipped, with those of timm's and torchvision's transforms."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from timm.data import create_transform
from timm.data.transforms import RandomResizedCropAndInterpolation
from torchvision.transforms import functional as F

from deit_fast.benchmarks.fidelity.material import Material, Pair, Row
from deit_fast.config import AugmentConfig
from deit_fast.kernels import crop, resample

_RECIPE = AugmentConfig()
_PADDING = 4  # of DeiT III's simple random crop
_CROP_RATIOS = (0.875, 0.9, 0.95, 1.0)  # of evaluation


def resampled(image: NDArray[np.uint8], plan: Any, kind: int, flipped: bool, height: int, width: int) -> NDArray[np.uint8]:
    """The view (height, width, 3) that a plan (see `kernels.crop`) shows of an image."""
    sizes = resample.scratch_sizes(image.shape[0], image.shape[1], max(height, width), min(height, width))
    rows, integers = (np.empty(size, dtype) for size, dtype in zip(sizes, (np.uint8, np.int32), strict=True))
    view = np.empty((height, width, 3), np.uint8)
    axes = crop.axes(tuple(int(number) for number in plan[:8]), 0, 0, 1)
    resample.resample(image, *axes, kind, bool(flipped), rows, integers, view)
    return view


class GivenCrop(RandomResizedCropAndInterpolation):
    """timm's transform with the box of a plan."""

    def __init__(self, plan: Any, interpolation: str) -> None:
        super().__init__(int(plan[4]), interpolation=interpolation)
        self._box = tuple(int(number) for number in plan[:4])

    def get_params(self, *_: Any) -> tuple[int, ...]:
        return self._box


def _resolution(generator: np.random.Generator) -> int:
    return int(generator.integers(16, 225))


def random_views(material: Material, generator: np.random.Generator, interpolation: str) -> Iterator[Pair]:
    """Random resized crops, every other one flipped."""
    kind, seed = resample.FILTERS[interpolation], np.uint64(material.seed)
    for number, image in enumerate(material.images):
        resolution = _resolution(generator)
        size = (np.int64(image.shape[0]), np.int64(image.shape[1]))
        plan = crop.random_resized_crop(seed, np.uint64(number), *size, _RECIPE.crop_scale, _RECIPE.crop_ratio, resolution)
        is_flipped = bool(generator.integers(2))
        reference = GivenCrop(plan, interpolation)(Image.fromarray(image))
        reference = F.hflip(reference) if is_flipped else reference
        yield resampled(image, plan, kind, is_flipped, resolution, resolution), np.asarray(reference)


def _evaluation_views(material: Material, generator: np.random.Generator, interpolation: str) -> Iterator[Pair]:
    for image in material.images:
        resolution, ratio = _resolution(generator), _CROP_RATIOS[generator.integers(len(_CROP_RATIOS))]
        plan = crop.resized_centre_crop(*image.shape[:2], int(resolution / ratio), resolution)
        transform = create_transform(
            (3, resolution, resolution), is_training=False, use_prefetcher=True, interpolation=interpolation, crop_pct=ratio
        )
        ours = resampled(image, plan, resample.FILTERS[interpolation], False, resolution, resolution)
        yield ours, np.asarray(transform(Image.fromarray(image))).transpose(1, 2, 0)


def _simple_random_crops(material: Material, generator: np.random.Generator) -> Iterator[Pair]:
    for number, image in enumerate(material.images):
        resolution = _resolution(generator)
        size = (np.int64(image.shape[0]), np.int64(image.shape[1]))
        plan = crop.simple_random_crop(np.uint64(material.seed), np.uint64(number), *size, resolution, _PADDING)
        resized = F.resize(Image.fromarray(image), [resolution], interpolation=F.InterpolationMode.BICUBIC)
        padded = F.pad(resized, [_PADDING], padding_mode="reflect")
        reference = F.crop(padded, int(plan[6]) + _PADDING, int(plan[7]) + _PADDING, resolution, resolution)
        yield resampled(image, plan, resample.BICUBIC, False, resolution, resolution), np.asarray(reference)


def _flips(material: Material, generator: np.random.Generator) -> Iterator[Pair]:
    for image in material.images:
        height, width = image.shape[:2]
        plan = (0, 0, height, width, height, width, 0, 0)
        ours = resampled(image, plan, resample.BICUBIC, True, height, width)
        yield ours, np.asarray(F.hflip(Image.fromarray(image)))


ROWS = (
    *(
        Row(f"random resized crop with flip, {name}", "timm", partial(random_views, interpolation=name))
        for name in resample.FILTERS
    ),
    *(
        Row(f"evaluation: resize and centre crop, {name}", "timm", partial(_evaluation_views, interpolation=name))
        for name in ("bilinear", "bicubic")
    ),
    Row("simple random crop (DeiT III), bicubic", "torchvision", _simple_random_crops),
    Row("horizontal flip", "torchvision", _flips),
)
