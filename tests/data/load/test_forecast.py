"""The forecast of a loader's memory is what a loader allocates."""

from __future__ import annotations

from pathlib import Path

import torch

from deit_fast.config import AugmentConfig, DataConfig
from deit_fast.data.format.beton import open_beton
from deit_fast.data.load.decode import stored_of
from deit_fast.data.load.forecast import forecast_line, loader_memory
from deit_fast.data.load.loader import train_loader
from tests.data.image_folders import convert, make_images


def test_scratch_and_batches_are_what_a_loader_allocates(tmp_path: Path) -> None:
    out = tmp_path / "set.beton"
    convert(make_images(tmp_path / "images", height=30, width=50), out)
    data = DataConfig(train=str(out), batch_size=4, resolution=32, batches_ahead=2, num_workers=2)
    loader = train_loader(data, AugmentConfig(), seed=0, rank=0, world_size=1, device=torch.device("cpu"))
    next(iter(loader))
    loader.close()
    pipelines = (loader._images, loader._labels)
    num_bytes = sum(array.nbytes for pipeline in pipelines for memory in pipeline._memory for array in memory)
    num_bytes += sum(pipeline.slots.num_pieces * pipeline.slots.take().nbytes for pipeline in pipelines)
    beton = open_beton(out)
    memory = loader_memory(12, 3, stored_of(beton, None), out.stat().st_size, data, 2)
    assert memory["batches"] == num_bytes
    policy = loader._images.operations[1]
    assert memory["scratch"] == sum(array.nbytes for array in (*loader._decoder._scratch._arrays, policy._scratch))
    mapped = loader._images._mapped
    columns = (beton.labels, beton.widths, beton.heights, beton.modes, beton.offsets, beton.sizes, *mapped.state[1:])
    metadata = 12 * mapped.metadata["label"].strides[0]  # a column is every so many bytes of all fields
    assert memory["tables"] == metadata + sum(column.nbytes for column in columns)
    assert memory["page_cache"] == open_beton(out).path.stat().st_size


def test_the_line_that_ends_a_conversion() -> None:
    data = DataConfig()
    memory = {"page_cache": 140_300_000_000, "tables": 700_000_000, "scratch": 400_000_000, "batches": 100_000_000}
    assert forecast_line(memory, data, 12) == (
        "to train from memory: 140.3 GB of page cache, and 1.2 GB for each rank (batch of 128 at 224, 12 threads)"
    )
