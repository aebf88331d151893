"""Our own loader in the comparison with rivals."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Generator
from pathlib import Path

import torch

from deit_fast import __version__
from deit_fast.benchmarks.rivals.common import Setting, System, Work
from deit_fast.config import AugmentConfig, DataConfig
from deit_fast.data.load.loader import Loader, eval_loader, train_loader

_CPU = torch.device("cpu")


def open_ours(work: Work, setting: Setting) -> System:
    """Our loader on our beton of the images, as DeiT's recipe has it."""
    beton = setting.files.beton("deit_fast", work.raw_side)
    data = DataConfig(
        train=str(beton),
        val=str(beton),
        batch_size=setting.batch_size,
        eval_batch_size=setting.batch_size,
        resolution=setting.resolution,
        num_workers=setting.num_cores,
    )
    if work.kind == "evaluation":
        return ours_evaluating(data, AugmentConfig())
    augment = AugmentConfig(repeats=work.repeats)
    if work.kind == "crop":
        data, augment = _only_crop_and_flip(data, augment)
    return ours_training(data, augment, setting.seed)


def ours_training(data: DataConfig, augment: AugmentConfig, seed: int) -> System:
    """Batches of data.train, epoch after epoch."""
    loader = train_loader(data, augment, seed=seed, rank=0, world_size=1, device=_CPU)
    return _system(loader, data, f"train_loader on {Path(data.train).name}: {augment}")


def ours_evaluating(data: DataConfig, augment: AugmentConfig) -> System:
    """Batches of data.val, again and again."""
    loader = eval_loader(data, augment, rank=0, world_size=1, device=_CPU)
    return _system(loader, data, f"eval_loader on {Path(data.val).name}, {data.interpolation}")


def _only_crop_and_flip(data: DataConfig, augment: AugmentConfig) -> tuple[DataConfig, AugmentConfig]:
    """Configurations that give views as they are after crop and flip, and labels as they are."""
    plain = dataclasses.replace(augment, auto_augment="", erase=0.0, mixup=None, cutmix=None, label_smoothing=0.0)
    return dataclasses.replace(data, dtype="uint8"), plain


def _system(loader: Loader, data: DataConfig, does: str) -> System:
    def batches() -> Generator[int, None, None]:
        for epoch in itertools.count():
            loader.set_epoch(epoch)
            for batch in loader:
                yield len(batch.images)

    endless = batches()

    def close() -> None:
        endless.close()
        loader.close()

    # one more than its queue holds waits for its place there
    return System(__version__, does, endless, ahead=data.batches_ahead + 1, close=close)
