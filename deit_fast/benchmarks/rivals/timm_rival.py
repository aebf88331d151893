"""timm's transforms and Mixup with PyTorch's DataLoader, as in DeiT's code, for comparison."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import timm
import torch
from timm.data import Mixup, create_transform
from timm.data.distributed_sampler import RepeatAugSampler
from torch.utils.data import DataLoader, Sampler, SequentialSampler
from torchvision.datasets import ImageFolder

from deit_fast.benchmarks.rivals.common import Setting, System, Work

_PREFETCH_FACTOR = 2  # batches ahead for each worker, the DataLoader's default


class _EndlessBatches(Sampler[list[int]]):
    """Lists of batch_size samples, epoch after epoch, so that the workers never end and restart."""

    def __init__(self, sampler: Sampler[int], batch_size: int) -> None:
        self._sampler = sampler
        self._batch_size = batch_size

    def __iter__(self) -> Iterator[list[int]]:
        samples = self._samples()
        while True:
            yield list(itertools.islice(samples, self._batch_size))

    def _samples(self) -> Iterator[int]:
        for epoch in itertools.count():
            if isinstance(self._sampler, RepeatAugSampler):
                self._sampler.set_epoch(epoch)
            yield from self._sampler


def check_installed() -> None:
    """timm is one of our dependencies."""


def open_timm(work: Work, setting: Setting) -> System:
    """A DataLoader with one worker for each core, whose PyTorch uses one thread; Mixup in this process, on the batch."""
    is_training = work.kind == "recipe"
    dataset = ImageFolder(str(setting.files.folder), _transform(setting.resolution, is_training))
    sampler: Sampler[int] = SequentialSampler(dataset)
    if is_training:
        sampler = RepeatAugSampler(dataset, num_replicas=1, rank=0, num_repeats=work.repeats)
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=_EndlessBatches(sampler, setting.batch_size),
        num_workers=setting.num_cores,
        persistent_workers=True,
        prefetch_factor=_PREFETCH_FACTOR,
        generator=torch.Generator().manual_seed(setting.seed),
    )
    mixup = None
    if is_training:
        mixup = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=setting.files.num_classes)
    iteration = iter(loader)

    def batches() -> Iterator[int]:
        for images, labels in iteration:
            if mixup is not None:
                mixup(images, labels)
            yield len(images)

    does = f"DataLoader with {setting.num_cores} workers, ImageFolder: {dataset.transform}"
    return System(
        timm.__version__,
        " ".join(does.split()) + (", RepeatAugSampler, Mixup on the batch" if is_training else ""),
        batches(),
        ahead=_PREFETCH_FACTOR * setting.num_cores,
        group=setting.num_cores,
        close=iteration._shutdown_workers,  # type: ignore[attr-defined]
    )


def _transform(resolution: int, is_training: bool) -> Any:
    if not is_training:
        return create_transform(resolution, interpolation="bicubic", crop_pct=0.875)
    return create_transform(
        resolution,
        is_training=True,
        color_jitter=0.4,
        auto_augment="rand-m9-mstd0.5-inc1",
        interpolation="bicubic",
        re_prob=0.25,
        re_mode="pixel",
        re_count=1,
    )
