"""Divides betons into shards: `deit-fast split`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from ffcv.types import ALLOC_TABLE_TYPE

from deit_fast.config import SplitConfig, UserError, check_sections
from deit_fast.data.convert.output import check_space, output_path
from deit_fast.data.format import layout
from deit_fast.data.format.beton import read_manifest
from deit_fast.data.format.shard import shard_path
from deit_fast.data.regroup.choice import all_samples
from deit_fast.data.regroup.joined import Joined, open_joined
from deit_fast.data.regroup.new_beton import is_written, write_chosen

_TABLE_BYTES = sum(kind.itemsize for kind in (layout.METADATA_TYPE, layout.INDEX_TYPE, ALLOC_TABLE_TYPE))  # of a sample


def split_betons(config: SplitConfig) -> dict[str, Any]:
    """Writes the shards of all samples in their order; gives the manifest of each by its path.

    A shard has all classes. One that an earlier call completed stays as it is.
    """
    check_sections(split=config)
    joined = open_joined("split.betons", config.betons)
    out = output_path("split.out", config.out or config.betons[0])
    starts = _starts(joined, config)
    paths = [shard_path(out, number, len(starts) - 1) for number in range(len(starts) - 1)]
    everything = all_samples(joined)
    shards = [
        (path, everything.at(first, end), {"shard": number, "num_shards": len(paths)})
        for number, (path, first, end) in enumerate(zip(paths, starts[:-1], starts[1:], strict=True))
    ]
    missing = [shard for shard in shards if not is_written(joined, shard[1], shard[0], "split", shard[2])]
    if len(missing) < len(shards):
        print(f"{len(shards) - len(missing)} of {len(shards)} shards are complete and stay as they are")
    check_space(out, sum(int(joined.sizes[choice.samples].sum()) for _, choice, _ in missing), _partial_bytes(paths))
    for path, choice, made in missing:
        write_chosen(joined, choice, path, "split", made)
    return {str(path): read_manifest(path) for path in paths}


def _starts(joined: Joined, config: SplitConfig) -> list[int]:
    """The first sample of each shard, and their number at the end."""
    num_samples = joined.num_samples
    if (config.shards is None) == (config.shard_gb is None):
        raise UserError("split: want either split.shards or split.shard_gb")
    if config.shards is not None:
        if config.shards > num_samples:
            raise UserError(f"split.shards={config.shards}: want at most the {num_samples} images that there are")
        return [num_samples * number // config.shards for number in range(config.shards + 1)]
    assert config.shard_gb is not None
    ends = np.cumsum(joined.sizes + _TABLE_BYTES)
    starts = [0]
    while starts[-1] < num_samples:
        before = int(ends[starts[-1] - 1]) if starts[-1] else 0
        fitting = int(np.searchsorted(ends, before + config.shard_gb * 1e9, side="right"))
        starts.append(max(fitting, starts[-1] + 1))
    return starts


def _partial_bytes(paths: list[Path]) -> int:
    """Bytes that an interrupted call has left."""
    partials = (path.with_name(f"{path.name}.partial") for path in paths)
    return sum(partial.stat().st_size for partial in partials if partial.exists())
