"""Compares our normalised and mixed batches and their targets with torchvision's and timm's."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data.mixup import Mixup
from torchvision.transforms import functional as F

from deit_fast.benchmarks.fidelity.global_generators import seeded
from deit_fast.benchmarks.fidelity.material import Material, Pair, Row
from deit_fast.config import AugmentConfig
from deit_fast.kernels import erase, finish, mix
from deit_fast.kernels.round import FLOAT32

_RECIPE = AugmentConfig()
_MEAN, _STD = np.array(_RECIPE.mean), np.array(_RECIPE.std)
_BATCH_SIZE, _NUM_CLASSES = 8, 1000


def _batches(material: Material) -> Iterator[NDArray[np.uint8]]:
    """(B, H, W, 3) uint8, B even: images that come after each other, cut to the smallest of them."""
    size = min(_BATCH_SIZE, len(material.images) // 2 * 2)
    for first in range(0, len(material.images) - size + 1, size):
        images = material.images[first : first + size]
        height, width = (min(image.shape[axis] for image in images) for axis in (0, 1))
        yield np.stack([image[:height, :width] for image in images])


def _finished(views: NDArray[np.uint8], mixed: mix.Mix) -> NDArray[np.float32]:
    count = len(views)
    images = np.empty(views.shape, np.float32)
    how = (erase.PIXEL, _MEAN, _STD, FLOAT32, 1)
    finish.finish_views(
        views, np.arange(count, dtype=np.uint64), np.uint64(0), mixed, np.zeros((count, 4), np.int64), *how, images
    )
    return images


def _normalised(views: NDArray[np.uint8]) -> torch.Tensor:
    """(B, 3, H, W) float32 as torchvision makes them."""
    return torch.stack([F.normalize(F.to_tensor(Image.fromarray(view)), _RECIPE.mean, _RECIPE.std) for view in views])


def _normalised_images(material: Material, generator: np.random.Generator) -> Iterator[Pair]:
    for views in _batches(material):
        yield _finished(views, mix.unmixed(len(views))), _normalised(views).permute(0, 2, 3, 1).numpy()


class _GivenMixup(Mixup):
    """timm's Mixup with a given lambda, which of a batch's two kinds, and the generators' state."""

    def __init__(self, lam: float, use_cutmix: bool) -> None:
        super().__init__(1.0, 1.0, label_smoothing=_RECIPE.label_smoothing, num_classes=_NUM_CLASSES)
        self._given = (lam, use_cutmix)

    def _params_per_batch(self) -> tuple[float, bool]:
        return self._given


def _mixed(material: Material, generator: np.random.Generator, kind: int, targets: bool) -> Iterator[Pair]:
    """A batch, or its targets, with timm's partners: view i and view B - 1 - i."""
    for views in _batches(material):
        count, height, width = views.shape[:3]
        alpha = _RECIPE.mixup if kind == mix.MIXUP else _RECIPE.cutmix
        assert alpha is not None
        lam, seed = float(generator.beta(alpha, alpha)), int(generator.integers(2**32))
        labels = generator.integers(0, _NUM_CLASSES, count)
        with seeded(seed):
            timm_mixup = _GivenMixup(lam, kind == mix.CUTMIX)
            timm_images, timm_targets = timm_mixup(_normalised(views), torch.from_numpy(labels))
        box = np.zeros(4, np.int64)
        if kind == mix.CUTMIX:
            with seeded(seed):  # the centre that timm drew
                centre = np.random.randint(0, height), np.random.randint(0, width)  # noqa: NPY002
            box[:] = y0, y1, x0, x1 = mix.cutmix_box(lam, *centre, height, width)
            lam = 1.0 - (y1 - y0) * (x1 - x0) / (height * width)
        partner = np.arange(count)[::-1].copy()
        mixed = mix.Mix(partner, np.full(count, kind), np.full(count, lam), np.tile(box, (count, 1)))
        if targets:
            ours = np.empty((count, _NUM_CLASSES), np.float32)
            mix.soft_targets(labels, partner, mixed.lam, _RECIPE.label_smoothing, ours)
            yield ours, timm_targets.numpy()
        else:
            yield _finished(views, mixed), timm_images.permute(0, 2, 3, 1).numpy()


ROWS = (
    Row("to_tensor and normalize", "torchvision", _normalised_images, 1.2e-6),
    Row("Mixup, images", "timm", partial(_mixed, kind=mix.MIXUP, targets=False), 1.2e-6),
    Row("Mixup, targets", "timm", partial(_mixed, kind=mix.MIXUP, targets=True), 1e-6),
    Row("CutMix, images", "timm", partial(_mixed, kind=mix.CUTMIX, targets=False), 1.2e-6),
    Row("CutMix, targets", "timm", partial(_mixed, kind=mix.CUTMIX, targets=True), 1e-6),
)
