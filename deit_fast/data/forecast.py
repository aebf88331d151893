"""Takes the size of a beton and how it is to be loaded, gives the memory that its loader will take, by what takes it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.state import State
from ffcv.types import ALLOC_TABLE_TYPE

from deit_fast.augment import resample
from deit_fast.config import AugmentConfig, DataConfig
from deit_fast.data.layout import METADATA_TYPE
from deit_fast.data.ops import DecodeTrainViews, Finish, Label, SoftTargets

_COUNTED_ENTRIES = 1 << 16  # of a dictionary, whose size grows in steps; more are reckoned from these


def loader_memory(
    num_samples: int,
    num_classes: int,
    max_height: int,
    max_width: int,
    max_pixels: int,
    file_bytes: int,
    data: DataConfig,
    num_threads: int,
) -> dict[str, int]:
    """Bytes that loading a beton of ours for training takes.

    `page_cache`: the file itself, once on a machine; less only makes it read from the disk again. The rest on each rank:
    `tables` of FFCV's reader, `scratch` of the threads that decode, `batches` being filled, waiting or in use.
    max_pixels: width times height of the largest image, max_height and max_width may be of two others.
    """
    return {
        "page_cache": file_bytes,
        "tables": table_bytes(num_samples),
        "scratch": num_threads * _scratch_bytes(max_height, max_width, max_pixels, data.resolution),
        "batches": _batch_bytes(num_classes, data),
    }


def forecast(facts: dict[str, Any], num_classes: int) -> tuple[dict[str, int], str]:
    """loader_memory with the defaults of `data` and a thread for each core, and that in one line.

    facts: of a beton, as its manifest has them: num_samples, height and width with their max, max_pixels, file_bytes.
    """
    data, num_threads = DataConfig(), len(os.sched_getaffinity(0))
    largest = (facts["height"]["max"], facts["width"]["max"], facts["max_pixels"])
    memory = loader_memory(facts["num_samples"], num_classes, *largest, facts["file_bytes"], data, num_threads)
    return memory, forecast_line(memory, data, num_threads)


def forecast_line(memory: dict[str, int], data: DataConfig, num_threads: int) -> str:
    """loader_memory in one line, as it ends the summary of a conversion."""
    of_rank = sum(num_bytes for kind, num_bytes in memory.items() if kind != "page_cache")
    return (
        f"to train from memory: {_shown(memory['page_cache'])} of page cache, and {_shown(of_rank)} for each rank (batch of "
        f"{data.batch_size} at {data.resolution}, {num_threads} threads)"
    )


def table_bytes(num_samples: int) -> int:
    """What FFCV's Reader and OSCacheManager keep of a beton with one stored image for each sample, of one page size.

    Beside arrays that is three dictionaries, each entry with boxed integers and two with a set: most of the bytes.
    """
    arrays = METADATA_TYPE.itemsize + ALLOC_TABLE_TYPE.itemsize + 2 * np.dtype("<u8").itemsize  # sorted pointers and sizes
    integer = sys.getsizeof(np.uint64(0))
    pages = {np.uint64(0)}
    objects = 2 * integer  # pointer and size
    objects += 2 * integer + sys.getsizeof(pages)  # sample and page, in a set of its own
    counted = min(num_samples, _COUNTED_ENTRIES)
    entries = sys.getsizeof(dict.fromkeys(range(counted))) / max(1, counted)
    in_pages = sys.getsizeof(set(range(min(counted, 128)))) / max(1, min(counted, 128))
    return round(num_samples * (arrays + objects + 2 * entries + in_pages))


def _scratch_bytes(max_height: int, max_width: int, max_pixels: int, resolution: int) -> int:
    """Of one thread, as decode.Scratch allocates it."""
    rows, integers, accumulator = resample.scratch_sizes(max_height, max_width, resolution)
    return 3 * max_pixels + rows + np.dtype(np.int32).itemsize * (integers + accumulator)


def _batch_bytes(num_classes: int, data: DataConfig) -> int:
    """What the operations of a training loader ask for, in all its slots."""
    augment = AugmentConfig()
    pipelines: Sequence[Sequence[Any]] = (
        [DecodeTrainViews(data.resolution, 0, augment, data.interpolation), Finish(augment, 0)],
        [Label(), SoftTargets(num_classes, data.resolution, augment, 0)],
    )
    num_bytes = 0
    for pipeline in pipelines:
        state = State(jit_mode=True, device=torch.device("cpu"), shape=(), dtype=np.dtype("<u1"))
        for operation in pipeline:
            state, wanted = operation.declare_state_and_memory(state)
            for query in [wanted] if isinstance(wanted, AllocationQuery) else wanted or ():
                num_bytes += int(np.prod(query.shape, dtype=np.int64)) * np.dtype(query.dtype).itemsize
    return num_slots(data.batches_ahead) * data.batch_size * num_bytes


def num_slots(batches_ahead: int) -> int:
    """Batches in memory at a time: those ahead, one with the consumer, one being filled, as loader.Loader has them."""
    return batches_ahead + 2


def _shown(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:,.1f} MB"
