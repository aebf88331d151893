"""The forecast of a loader's memory is what a loader allocates."""

from __future__ import annotations

import gc
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numba
import numpy as np
import pytest
import torch
from ffcv.memory_managers import OSCacheManager
from ffcv.types import ALLOC_TABLE_TYPE

from deit_fast.config import AugmentConfig, DataConfig
from deit_fast.data.beton import open_beton
from deit_fast.data.forecast import forecast_line, loader_memory, table_bytes
from deit_fast.data.layout import METADATA_TYPE
from deit_fast.data.loader import train_loader
from tests.data.image_folders import convert, make_images


def test_scratch_and_batches_are_what_a_loader_allocates(tmp_path: Path) -> None:
    out = tmp_path / "set.beton"
    convert(make_images(tmp_path / "images", height=30, width=50), out)
    data = DataConfig(train=str(out), batch_size=4, resolution=32, batches_ahead=2)
    loader = train_loader(data, AugmentConfig(), seed=0, rank=0, world_size=1, device=torch.device("cpu"))
    next(iter(loader))
    loader.close()
    assert loader._memory is not None
    buffers = [memory for kind in loader._memory.values() for memory in kind.values() if memory is not None]
    arrays = [array for memory in buffers for array in (memory if isinstance(memory, tuple) else (memory,))]
    scratch = loader._decoder._scratch
    num_threads = numba.config.NUMBA_NUM_THREADS
    memory = loader_memory(12, 3, 30, 50, 30 * 50, out.stat().st_size, data, num_threads)
    assert memory["batches"] == sum(array.nbytes for array in arrays)
    assert memory["scratch"] == sum(array.nbytes for array in scratch._arrays)
    assert memory["page_cache"] == open_beton(out).path.stat().st_size


@pytest.mark.parametrize("num_samples", [2_000, 50_000])
def test_tables_are_what_ffcv_allocates(num_samples: int) -> None:
    table = np.zeros(num_samples, ALLOC_TABLE_TYPE)
    table["sample_id"], table["size"] = np.arange(num_samples), 109_000
    table["ptr"] = np.arange(num_samples) * 110_000 + 4096
    gc.collect()
    tracemalloc.start()
    reader = SimpleNamespace(alloc_table=table.copy(), page_size=1 << 23, metadata=np.zeros(num_samples, METADATA_TYPE))
    manager = OSCacheManager(reader)
    allocated, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(manager.ptrs) == num_samples
    assert table_bytes(num_samples) == pytest.approx(allocated, rel=0.15)


def test_the_line_that_ends_a_conversion() -> None:
    data = DataConfig()
    memory = {"page_cache": 140_300_000_000, "tables": 700_000_000, "scratch": 400_000_000, "batches": 100_000_000}
    assert forecast_line(memory, data, 12) == (
        "to train from memory: 140.3 GB of page cache, and 1.2 GB for each rank (batch of 128 at 224, 12 threads)"
    )
