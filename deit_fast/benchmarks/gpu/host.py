"""Measures what a batch costs the host, from its view ids to the last queued kernel, beside a plain copy of the same bytes."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray

from deit_fast.benchmarks.gpu.batch import HostPart, Source
from deit_fast.benchmarks.gpu.parts import error_of
from deit_fast.benchmarks.interleave import interleaved, summary, wait_for
from deit_fast.config import RunConfig

NUM_VIEWS = 256
_NUM_BATCHES = 8


def host_seconds(config: RunConfig, device: torch.device, *, num_views: int = NUM_VIEWS) -> dict[str, Any]:
    """Seconds of the host for a batch of num_views random crops of data.train, medians over batches and bench.rounds.

    - `plan`: finds the images, and draws their crops
    - `gather`: describes what the device needs, and copies it to pinned memory, by the loader's threads
    - `gather, one thread`
    - `copy`: as many bytes of the same file, by one call of memcpy
    - `batch`, on a device: all that the loader does, until its last kernel is queued; the device is idle before
    `over_copy`: ratios to `copy`, in turns; `failed_stages`: errors. Raises UserError if there is no beton.
    """
    is_cuda = device.type == "cuda"
    source = Source(config, num_views)
    batches = source.ids(num_views, _NUM_BATCHES)
    threads = {"gather": source.num_workers, "gather, one thread": 1}
    hosts = {name: HostPart(source.images, source.kind, num_workers=count, device=device) for name, count in threads.items()}
    sizes = [hosts["gather"].gather(source.planned(ids), source.side) for ids in batches]
    most = max(totals.encoded for totals in sizes)
    target = torch.empty(most, dtype=torch.uint8, pin_memory=is_cuda).numpy()

    def copy(number: int) -> None:
        size = sizes[number].encoded
        stretch, start = source.beton.where(number * source.beton.num_samples // _NUM_BATCHES)
        memory = source.images.memories[source.beton.stretches.index(stretch)]
        start = max(0, min(start, len(memory) - size))
        part = memory[start : start + size]
        target[: len(part)] = part

    works: dict[str, Callable[[int], float]] = {
        "plan": lambda number: _seconds(lambda: source.planned(batches[number])),
        "copy": lambda number: _seconds(lambda: copy(number)),
    }
    for name, host in hosts.items():

        def gather(number: int, host: HostPart = host, count: int = threads[name]) -> float:
            work = source.planned(batches[number])
            numba.set_num_threads(count)
            seconds = _seconds(lambda: host.gather(work, source.side))
            numba.set_num_threads(source.num_workers)
            return seconds

        works[name] = gather
    if is_cuda:
        works["batch"] = whole_batch(source, batches, device)
    failed = {name: line for name, work in works.items() if (line := error_of(functools.partial(work, 0)))}
    works = {name: work for name, work in works.items() if name not in failed}
    measures = {name: _mean(work, len(batches)) for name, work in works.items()}
    rounds = interleaved(measures, config.bench.rounds)
    num_photographs = sum(totals.jobs for totals in sizes) / len(sizes)
    return {
        "seconds": {name: summary(values) for name, values in rounds.items()},
        "over_copy": {
            name: statistics.median(a / b for a, b in zip(values, rounds["copy"], strict=True))
            for name, values in rounds.items()
        },
        "failed_stages": failed,
        "views": num_views,
        "photographs": num_photographs,
        "bytes": sum(totals.encoded for totals in sizes) / len(sizes),
        "num_workers": source.num_workers,
    }


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _mean(work: Callable[[int], float], count: int) -> Callable[[], float]:
    return lambda: sum(work(number) for number in range(count)) / count


def whole_batch(source: Source, batches: list[NDArray[np.uint64]], device: torch.device) -> Callable[[int], float]:
    """Of a batch's number: seconds of `GpuViews.make`, all kernels of the loader, with the device idle before."""
    from deit_fast.data.load.gpu_views import GpuViews  # which imports numba-cuda
    from deit_fast.data.load.views import Recipe, Slot

    config = source.config.changed({"data.decode": "gpu", "augment.device": "gpu"})
    recipe = Recipe(config.data, config.augment, source.beton.num_classes, config.train.seed)
    count, side, is_pinned = len(batches[0]), source.side, device.type == "cuda"
    views = GpuViews(
        source.images,
        recipe,
        side,
        batch_size=count,
        num_workers=source.num_workers,
        replace=source.refuse,
        device=device,
    )
    slots = [
        Slot(
            torch.empty(count, side, side, 3, dtype=torch.uint8, pin_memory=is_pinned).numpy(),
            torch.empty(count, source.beton.num_classes, pin_memory=is_pinned).numpy(),
        )
        for _ in range(2)
    ]

    def seconds(number: int) -> float:
        wait_for(device)
        return _seconds(lambda: views.make(batches[number], slots[number % 2]))

    return seconds
