"""Shared by the loaders of a comparison: the works, the setting, and the interface of a loader."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from deit_fast.benchmarks.files import BenchFiles
from deit_fast.benchmarks.interleave import wait_for_rest


class NotInstalled(Exception):
    """A rival that is not installed. Its message says what could not be imported."""


@dataclass(frozen=True)
class Work:
    """The task for every system of a comparison.

    recipe: DeiT's training views, float32, mixed in batches. crop: random resized crop and flip, uint8. evaluation: shorter
    side to 8/7 of the resolution, centre crop, float32. `raw_side`: from betons of pixels with this longest side; 0: JPEGs.
    """

    title: str
    kind: Literal["recipe", "crop", "evaluation"]
    rivals: tuple[str, ...]
    repeats: int = 1
    raw_side: int = 0


WORKS = {
    "recipe3": Work("DeiT recipe, 3 repeats", "recipe", ("timm", "dali"), repeats=3),
    "recipe1": Work("DeiT recipe, 1 repeat", "recipe", ("timm", "dali")),
    "crop": Work("crop and flip", "crop", ("ffcv", "dali")),
    "raw": Work("crop and flip, raw 400 px", "crop", ("ffcv",), raw_side=400),
    "evaluation": Work("evaluation", "evaluation", ("timm",)),
}


@dataclass(frozen=True)
class Setting:
    """The settings shared by all systems of a comparison."""

    files: BenchFiles
    batch_size: int
    resolution: int
    num_cores: int
    seed: int


@dataclass(frozen=True, eq=False)
class System:
    """A running loader.

    `batches` gives the number of views of one batch after another, without end. `ahead`: number of batches that are ready after
    a pause, made while the clock stood still. `group`: number of batches that are finished at about the same time, one by each
    of several workers; only whole groups are counted. `does`: its settings, for the record; `lacks`: parts of the work that it
    leaves out, which makes it faster.
    """

    version: str | None
    does: str
    batches: Iterator[int]
    ahead: int
    close: Callable[[], None]
    group: int = 1
    lacks: str = ""


def views_per_second(system: System, seconds: float) -> float:
    """Throughput over at least that many seconds. Afterwards the system is idle: it has filled its queues."""
    # one batch more than lies ready, so that the clock starts when one is finished
    for _ in range(system.ahead + 1):
        next(system.batches)
    started = time.perf_counter()
    num_views, elapsed = 0, 0.0
    while elapsed < seconds:
        num_views += sum(itertools.islice(system.batches, system.group))
        elapsed = time.perf_counter() - started
    wait_for_rest()
    return num_views / elapsed


def sample_order(num_samples: int, repeats: int, seed: int, num_views: int) -> NDArray[np.int64]:
    """Samples in the order of training, (num_views,): permutations of the set, each sample `repeats` times in a row.

    As DeiT's sampler does, one epoch shows as many views as there are samples.
    """
    generator = np.random.Generator(np.random.Philox(seed))
    num_epochs = -(-num_views // num_samples)
    epochs = [np.repeat(generator.permutation(num_samples), repeats)[:num_samples] for _ in range(num_epochs)]
    return np.concatenate(epochs)[:num_views]
