"""The forecast of a loader's memory is what a loader allocates."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from deit_fast.config import AugmentConfig, DataConfig
from deit_fast.data.format.beton import open_beton
from deit_fast.data.load.decode import largest_of
from deit_fast.data.load.forecast import forecast_line, loader_memory
from deit_fast.data.load.loader import train_loader
from deit_fast.data.load.views import CpuViews
from tests.data.image_folders import convert, make_images


def test_scratch_and_batches_are_what_a_loader_allocates(tmp_path: Path) -> None:
    out = tmp_path / "set.beton"
    convert(make_images(tmp_path / "images", height=30, width=50), out)
    data = DataConfig(train=str(out), batch_size=4, resolution=32, batches_ahead=2, num_workers=2)
    loader = train_loader(data, AugmentConfig(), seed=0, rank=0, world_size=1, device=torch.device("cpu"))
    next(iter(loader))
    loader.close()
    views, slot = loader.views(), loader.take_slot()
    assert isinstance(views, CpuViews)
    work = views.begin(np.arange(4, dtype=np.uint64))
    num_bytes = sum(array.nbytes for array in (work.stored, work.plans, work.statuses, work.views))
    num_bytes += sum(count * array.nbytes for count, array in zip(loader.num_pieces, slot, strict=True))
    beton = open_beton(out)
    memory = loader_memory(12, 3, largest_of(beton), out.stat().st_size, data, 2)
    assert memory["batches"] == num_bytes
    assert memory["scratch"] == views._decoder.scratch.num_bytes + views._policy_scratch.nbytes
    columns = (beton.labels, beton.widths, beton.heights, beton.modes, beton.offsets, beton.sizes)
    assert memory["tables"] == sum(column.nbytes for column in columns)
    assert memory["page_cache"] == open_beton(out).path.stat().st_size


def test_the_line_that_ends_a_conversion() -> None:
    data = DataConfig()
    memory = {"page_cache": 140_300_000_000, "tables": 700_000_000, "scratch": 400_000_000, "batches": 100_000_000}
    assert forecast_line(memory, data, 12) == (
        "to train from memory: 140.3 GB of page cache, and 1.2 GB for each rank (batch of 128 at 224, 12 threads)"
    )
