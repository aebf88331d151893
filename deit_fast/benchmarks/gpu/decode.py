"""Measures views per second of decoding on the GPU, by our kernels and by nvJPEG, and on the CPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

from deit_fast.benchmarks.interleave import interleaved, summary
from deit_fast.benchmarks.rivals.nvjpeg import NvjpegDecoder, check_decoder, torchvision_decoder
from deit_fast.config import RunConfig, UserError
from deit_fast.data.format.beton import open_beton
from deit_fast.data.load.decode import images_of
from deit_fast.data.load.gpu_decode import RaggedDecoder
from deit_fast.data.load.loader import num_threads
from deit_fast.data.load.views import HostViews, Recipe, Work
from deit_fast.kernels import rng
from deit_fast.kernels.resample import FILTERS


def decode_rates(config: RunConfig, device: torch.device) -> dict[str, Any]:
    """views_per_second of bench.rounds times bench.steps batches of random crops of data.train.

    `kernels`: decoded on the device by ours, not resampled. `nvjpeg`: the same by nvJPEG, of JPEGs cut to the tiles under the
    crops, which a beton without an index does not have; `nvjpeg whole`: without cutting. `cpu`: decoded and resampled by the
    CPU's threads. Also how many JPEGs the device `refused`, and what the machine `lacks` for nvJPEG. Raises UserError if there
    is no beton.
    """
    if not config.data.train:
        raise UserError("data.train is not set: no beton to decode")
    beton = open_beton(Path(config.data.train))
    num_workers, side, batch_size = num_threads(config.data, 1), config.data.resolution, config.data.batch_size
    images = images_of(beton)
    recipe = Recipe(config.data, config.augment, beton.num_classes, config.train.seed)
    host = HostViews(images, recipe, side, batch_size=batch_size, num_workers=num_workers, replace=_refuse)
    batches = view_ids(beton.num_samples, batch_size, config.augment.repeats, config.bench.steps, config.train.seed)
    views = np.empty((batch_size, side, side, 3), np.uint8)

    def planned(ids: np.ndarray) -> Work:
        work = host.begin(ids)
        host.locate(work)
        host.plan(work)
        return work

    def on_cpu() -> None:
        for ids in batches:
            work = planned(ids)
            work.views = views[: len(ids)]
            host.decode(work)

    def on_device(decoder: RaggedDecoder | NvjpegDecoder) -> Callable[[], None]:
        def work() -> None:
            for ids in batches:
                batch = planned(ids)
                decoder.decode(batch.ids, batch.stored, batch.plans, side)
            if device.type == "cuda":
                torch.cuda.synchronize(device)

        return work

    kind = FILTERS[config.data.interpolation]
    decoders: dict[str, RaggedDecoder | NvjpegDecoder] = {
        "kernels": RaggedDecoder(images, kind, num_workers=num_workers, device=device)
    }
    lacks = ""
    try:
        check_decoder(device)
    except UserError as error:
        lacks = str(error)
    else:
        decode_jpegs, how = torchvision_decoder(device), {"batch_size": batch_size, "num_workers": num_workers}
        of_rival = {"nvjpeg": images, "nvjpeg whole": images_of(beton, has_index=False)}
        for name, one in of_rival.items() if images.index is not None else list(of_rival.items())[1:]:
            decoders[name] = NvjpegDecoder(decode_jpegs, one, kind, **how, is_pinned=device.type == "cuda")
    works = {name: on_device(decoder) for name, decoder in decoders.items()} | {"cpu": on_cpu}
    rates = interleaved({name: _rate(work, len(batches) * batch_size) for name, work in works.items()}, config.bench.rounds)
    return {
        "views_per_second": {name: summary(values) for name, values in rates.items()},
        "refused": {name: decoder.num_refused for name, decoder in decoders.items()},
        "lacks": lacks,
        "num_workers": num_workers,
    }


def view_ids(num_samples: int, batch_size: int, repeats: int, count: int, seed: int) -> list[np.ndarray]:
    """`count` batches (batch_size,) uint64 of random samples, `repeats` views of each beside each other."""
    generator = np.random.Generator(np.random.Philox(key=[seed, 0]))
    copies = np.arange(batch_size) % repeats
    batches = []
    for epoch in range(count):
        samples = generator.integers(0, num_samples, -(-batch_size // repeats))
        batches.append(rng.pack_view_ids(epoch, np.repeat(samples, repeats)[:batch_size], copies))
    return batches


def _refuse(ids: np.ndarray, failures: list[tuple[int, str]], num_tries: int) -> NoReturn:
    raise UserError(failures[0][1])


def _rate(work: Callable[[], None], num_views: int) -> Callable[[], float]:
    def measure() -> float:
        started = time.perf_counter()
        work()
        return num_views / (time.perf_counter() - started)

    return measure
