"""Makes the loader of a training or validation set from a configuration."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numba
import numpy as np
import torch

from deit_fast.config import (
    AugmentConfig,
    DataConfig,
    UserError,
    check_loading,
    eval_augment,
    eval_batch_size,
    eval_resolution,
)
from deit_fast.cores import num_cores
from deit_fast.data.fetch.addresses import has_address, in_any_folder
from deit_fast.data.fetch.local import open_arriving, open_here
from deit_fast.data.format.beton_set import check_each_once
from deit_fast.data.load.batch import Batch
from deit_fast.data.load.batches import Loader, ShownSet, slots_of
from deit_fast.data.load.compile_ahead import ON_CPU, ON_GPU, SCALING, compile_ahead
from deit_fast.data.load.decode import images_of
from deit_fast.data.load.order import EvalOrder, StretchOrder, choose_subset, train_order
from deit_fast.data.load.page_order import CHUNK_BYTES
from deit_fast.data.load.placement import check_device, eval_place
from deit_fast.data.load.views import Recipe

__all__ = ["Batch", "Loader", "ShownSet", "eval_loader", "num_threads", "open_train_set", "slots_of", "train_loader"]

_LEAST_CHUNK_BYTES = 128 << 10  # what Linux reads at once


def num_threads(config: DataConfig, world_size: int) -> int:
    """Threads that prepare batches on this rank: data.num_workers, or its share of the cores that this process may use.

    Raises UserError if more are asked for than Numba can start."""
    available = numba.config.NUMBA_NUM_THREADS
    if config.num_workers is not None and config.num_workers > available:
        raise UserError(f"data.num_workers={config.num_workers}: want at most the {available} cores of this machine, or auto")
    local_ranks = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    return config.num_workers or max(1, min(available, num_cores()) // local_ranks)


def train_loader(
    config: DataConfig,
    augment: AugmentConfig,
    *,
    seed: int,
    rank: int,
    world_size: int,
    device: torch.device,
    stretches: Sequence[Sequence[range]] | None = None,
) -> Loader:
    """Augmented batches of config.train for one rank. stretches: of the epochs' streams to show, as for `StretchOrder`, instead
    of whole epochs. Raises UserError for an option outside its range, a beton that cannot be
    used, and if this machine cannot do what config.decode and augment.device ask for."""
    check_loading(config, augment, rank=rank, world_size=world_size, seed=seed)
    check_device(config, augment, device)
    ranks: dict[str, Any] = {"rank": rank, "world_size": world_size, "device": device}
    shown = open_train_set(config, augment, seed=seed, stretches=stretches, **ranks)
    compile_ahead(shown.images.beton.paths[0], _parts_for(config.decode) + (SCALING if config.dct_scaling else ()))
    recipe = Recipe(config, augment, shown.images.beton.num_classes, seed)
    loader = functools.partial(
        Loader,
        shown,
        recipe,
        batch_size=config.batch_size,
        resolution=config.resolution,
        num_workers=num_threads(config, world_size),
        device=device,
    )
    return _finishing(loader, recipe, device)


def open_train_set(
    config: DataConfig,
    augment: AugmentConfig,
    *,
    seed: int,
    rank: int,
    world_size: int,
    device: torch.device,
    stretches: Sequence[Sequence[range]] | None = None,
) -> ShownSet:
    """The images of config.train and their order on one rank, for `Loader.show` of a loader that `train_loader` made with the
    same arguments but for config.train. Raises UserError for a beton that cannot be used."""
    beton, arrivals = open_arriving(config, "train")
    subset = choose_subset(beton.labels, config.subset, seed) if config.subset else None
    window_bytes = round(config.window_gb * 1e9)
    order = train_order(
        beton.offsets,
        beton.sizes,
        beton.places if config.order == "pages" else None,
        subset=subset,
        kind=config.order,
        files=beton.stretches_of(np.arange(beton.num_samples)) if has_address(config.train) else None,
        seed=seed,
        batch_size=config.batch_size,
        repeats=augment.repeats,
        rank=rank,
        world_size=world_size,
        window_bytes=window_bytes,
        chunk_bytes=min(CHUNK_BYTES, max(_LEAST_CHUNK_BYTES, window_bytes >> 12)),
    )
    elsewhere = replace(config, train=in_any_folder(config.train, "data.train"))
    remake = functools.partial(
        train_loader, elsewhere, augment, seed=seed, rank=rank, world_size=world_size, device=device, stretches=stretches
    )
    return ShownSet(images_of(beton), order if stretches is None else StretchOrder(order, stretches), remake, arrivals)


def eval_loader(config: DataConfig, augment: AugmentConfig, *, rank: int, world_size: int, device: torch.device) -> Loader:
    """Batches of config.val: every image of the set exactly once over all ranks. Only mean and std of augment are used.

    Views are decoded and finished where config.decode says; auto: on the GPU if this machine can. Raises UserError for an
    option outside its range, a beton that cannot be used, and if this machine cannot do what config.decode asks for."""
    check_loading(config, augment, rank=rank, world_size=world_size)
    place = eval_place(config, device)
    beton = open_here(config, "val")
    check_each_once(beton, "data.val")
    compile_ahead(beton.paths[0], _parts_for(place))
    batch_size = min(eval_batch_size(config), -(-beton.num_samples // world_size))
    recipe = Recipe(replace(config, decode=place), eval_augment(augment, place), beton.num_classes, None)
    elsewhere = replace(config, val=in_any_folder(config.val, "data.val"))
    remake = functools.partial(eval_loader, elsewhere, augment, rank=rank, world_size=world_size, device=device)
    loader = functools.partial(
        Loader,
        ShownSet(images_of(beton), EvalOrder(beton.num_samples, batch_size, rank, world_size), remake),
        recipe,
        batch_size=batch_size,
        resolution=eval_resolution(config),
        num_workers=num_threads(config, world_size),
        device=device,
    )
    return _finishing(loader, recipe, device)


def _finishing(loader: Callable[..., Loader], recipe: Recipe, device: torch.device) -> Loader:
    """The loader, whose views are finished on the CPU or on the device."""
    if recipe.augment.device == "cpu":
        return loader()
    from deit_fast.data.load import gpu_views  # which imports numba-cuda

    make_views = functools.partial(gpu_views.GpuViews, device=device)
    return loader(make_views=make_views, num_slots=gpu_views.NUM_SLOTS)


def _parts_for(decode: str) -> tuple[str, ...]:
    """The `compile_ahead.PARTS` of loaders that decode there."""
    return ON_GPU if decode == "gpu" else ON_CPU
