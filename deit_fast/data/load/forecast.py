"""Predicts the memory of a loader, by use."""

from __future__ import annotations

from typing import Any

from deit_fast.config import AugmentConfig, DataConfig
from deit_fast.cores import num_cores
from deit_fast.data.load.batches import slots_of
from deit_fast.data.load.decode import Largest, scratch_bytes
from deit_fast.data.load.views import Recipe
from deit_fast.kernels.operations import scratch_bytes as policy_bytes

_ORDER_ARRAYS = 7  # of 8 bytes a sample: keys, their order, samples, positions, and the view ids in the making


def loader_memory(
    num_samples: int, num_classes: int, largest: Largest, file_bytes: int, data: DataConfig, num_threads: int
) -> dict[str, int]:
    """Bytes that loading a beton of ours for training takes.

    `page_cache`: the file itself, once per machine; with less, parts of it are read from the disk again. The rest is per rank:
    `tables` of the images' metadata, `order` while an epoch's order is made, `scratch` of the threads, `batches` being filled,
    waiting or in use.
    """
    recipe = Recipe(data, AugmentConfig(), num_classes, seed=0)
    return {
        "page_cache": file_bytes,
        "tables": table_bytes(num_samples),
        "order": 8 * _ORDER_ARRAYS * num_samples,
        "scratch": num_threads * (scratch_bytes(largest, data.resolution) + policy_bytes(data.resolution, data.resolution)),
        "batches": data.batch_size * recipe.batch_bytes(data.resolution, slots_of(data)),
    }


def forecast(facts: dict[str, Any], num_classes: int) -> tuple[dict[str, int], str]:
    """loader_memory with the defaults of `data` and a thread for each core, as numbers and as one line.

    facts: of a beton, from its manifest: num_samples, height, width and stored_bytes with their max, max_pixels, file_bytes.
    """
    data, num_threads = DataConfig(), num_cores()
    sides = (facts["height"]["max"], facts["width"]["max"])
    largest = Largest(*sides, facts["max_pixels"], facts["stored_bytes"]["max"])
    memory = loader_memory(facts["num_samples"], num_classes, largest, facts["file_bytes"], data, num_threads)
    return memory, forecast_line(memory, data, num_threads)


def forecast_line(memory: dict[str, int], data: DataConfig, num_threads: int) -> str:
    """loader_memory in one line, as it ends the summary of a conversion."""
    of_rank = sum(num_bytes for kind, num_bytes in memory.items() if kind != "page_cache")
    return (
        f"to train from memory: {_shown(memory['page_cache'])} of page cache, and {_shown(of_rank)} for each rank (batch of "
        f"{data.batch_size} at {data.resolution}, {num_threads} threads)"
    )


def table_bytes(num_samples: int) -> int:
    """Bytes that a loader keeps in memory for each image: the Beton's arrays."""
    return num_samples * (8 + 2 + 2 + 1 + 8 + 8)  # label, width, height, mode, offset, size


def _shown(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:,.1f} MB"
