"""Takes a configuration, gives the loader of its training or its validation set."""

from __future__ import annotations

import functools
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numba
import torch
from ffcv.pipeline.operation import Operation

from deit_fast.config import (
    AugmentConfig,
    DataConfig,
    UserError,
    check_loading,
    eval_batch_size,
    eval_crop_ratio,
    eval_resolution,
    is_mixing,
)
from deit_fast.cores import num_cores
from deit_fast.data.format.beton import Beton, open_beton
from deit_fast.data.format.index import read_index
from deit_fast.data.load.batches import Batch, Loader, num_slots
from deit_fast.data.load.compile_ahead import compile_ahead
from deit_fast.data.load.decode import Stored, stored_of
from deit_fast.data.load.decode_ops import DecodeEvalViews, DecodeTrainViews
from deit_fast.data.load.ops import AugmentViews, Finish, Label, SoftTargets
from deit_fast.data.load.order import EvalOrder, choose_subset, train_order
from deit_fast.data.load.page_order import CHUNK_BYTES
from deit_fast.data.load.placement import check_device

__all__ = ["Batch", "Loader", "eval_loader", "num_slots", "num_threads", "train_loader", "train_operations"]

_LEAST_CHUNK_BYTES = 128 << 10  # what Linux reads at once


def num_threads(config: DataConfig, world_size: int) -> int:
    """Threads that prepare batches on this rank: data.num_workers, or its share of the cores that this process may use.

    Raises UserError if more are asked for than Numba can start."""
    available = numba.config.NUMBA_NUM_THREADS
    if config.num_workers > available:
        raise UserError(f"data.num_workers={config.num_workers}: want at most the {available} cores of this machine, or 0")
    local_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    return config.num_workers or max(1, min(available, num_cores()) // local_ranks)


def train_operations(
    config: DataConfig, augment: AugmentConfig, stored: Stored, num_classes: int, *, seed: int, num_workers: int
) -> tuple[list[Operation], list[Operation]]:
    """The operations that make training batches of images and of targets."""
    threads: dict[str, Any] = {"num_workers": num_workers}
    options = {"dct_scaling": config.dct_scaling, "centre_ratio": eval_crop_ratio(config), **threads}
    decoder = DecodeTrainViews(stored, config.resolution, seed, augment, config.interpolation, **options)
    images: list[Operation] = [decoder]
    policy = AugmentViews(augment, seed, config.interpolation, **threads)
    if policy.policy.num_steps:
        images.append(policy)
    if config.dtype != "uint8":
        images.append(Finish(augment, seed, config.dtype, **threads))
    elif is_mixing(augment) or augment.erase > 0:
        raise UserError(
            "data.dtype=uint8: images are neither mixed nor erased; set augment.mixup, augment.cutmix and augment.erase to 0"
        )
    return images, [Label(), SoftTargets(num_classes, config.resolution, augment, seed)]


def train_loader(
    config: DataConfig, augment: AugmentConfig, *, seed: int, rank: int, world_size: int, device: torch.device
) -> Loader:
    """Augmented batches of config.train for one rank. Raises UserError for an option outside its range, on a beton that cannot
    be used, and where this machine lacks what config.decode and augment.device want."""
    check_loading(config, augment, rank=rank, world_size=world_size, seed=seed)
    check_device(config, augment, device)
    beton = _open(config, "train")
    compile_ahead(beton.path)
    place: dict[str, Any] = {"seed": seed, "rank": rank, "world_size": world_size, "device": device}
    subset = choose_subset(beton.labels, config.subset, seed) if config.subset else None
    window_bytes = round(config.window_gb * 1e9)
    order = train_order(
        beton.offsets,
        beton.sizes,
        subset=subset,
        kind=config.order,
        seed=seed,
        batch_size=config.batch_size,
        repeats=augment.repeats,
        rank=rank,
        world_size=world_size,
        window_bytes=window_bytes,
        chunk_bytes=min(CHUNK_BYTES, max(_LEAST_CHUNK_BYTES, window_bytes >> 12)),
    )
    workers = num_threads(config, world_size)
    stored = stored_of(beton, read_index(beton))
    images, labels = train_operations(config, augment, stored, beton.num_classes, seed=seed, num_workers=workers)
    common: dict[str, Any] = {
        "config": config,
        "batch_size": config.batch_size,
        "num_workers": workers,
        "device": device,
        "is_training": True,
        "remake": functools.partial(train_loader, _anywhere(config), augment, **place),
    }
    if augment.device == "cpu":
        return Loader(beton, images, labels, order, **common)
    # which import numba-cuda
    from deit_fast.data.load.decode_gpu import torchvision_decoder
    from deit_fast.data.load.device_batches import DeviceLoader

    decode_jpegs = torchvision_decoder(device) if config.decode == "gpu" else None
    where: dict[str, Any] = {"augment": augment, "stored": stored, "seed": seed, "decode_jpegs": decode_jpegs}
    return DeviceLoader(beton, images[:1], labels, order, **common, **where)


def eval_loader(config: DataConfig, augment: AugmentConfig, *, rank: int, world_size: int, device: torch.device) -> Loader:
    """Batches of config.val: every image of the set exactly once over all ranks. Of augment only mean and std matter.

    Raises UserError for an option outside its range, and on a beton that cannot be used."""
    check_loading(config, augment, rank=rank, world_size=world_size)
    beton = _open(config, "val")
    compile_ahead(beton.path)
    batch_size = min(eval_batch_size(config), -(-beton.num_samples // world_size))
    place: dict[str, Any] = {"rank": rank, "world_size": world_size, "device": device}

    order = EvalOrder(beton.num_samples, batch_size, rank, world_size)
    workers = num_threads(config, world_size)
    stored = stored_of(beton, read_index(beton))
    decoder = DecodeEvalViews(
        stored, eval_resolution(config), eval_crop_ratio(config), config.interpolation, num_workers=workers
    )
    return Loader(
        beton,
        [decoder] if config.dtype == "uint8" else [decoder, Finish(augment, None, config.dtype, num_workers=workers)],
        [Label()],
        order,
        config=config,
        batch_size=batch_size,
        num_workers=workers,
        device=device,
        is_training=False,
        remake=functools.partial(eval_loader, _anywhere(config), augment, **place),
    )


def _open(config: DataConfig, name: str) -> Beton:
    path = getattr(config, name)
    if not path:
        raise UserError(f"data.{name} is not set: want the path of a beton, made by `deit-fast write`")
    return open_beton(path)


def _anywhere(config: DataConfig) -> DataConfig:
    """The configuration with paths that mean the same in another folder."""
    return replace(config, train=_absolute(config.train), val=_absolute(config.val))


def _absolute(path: str) -> str:
    return str(Path(path).absolute()) if path else path
