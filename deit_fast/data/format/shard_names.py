"""Names the files of a beton that is written in shards."""

from __future__ import annotations

from pathlib import Path


def shard_path(out: Path, shard: int, num_shards: int) -> Path:
    """Path of a shard, from 0 on: set.beton gives set-00003-of-00016.beton, so that a pattern finds shards in order."""
    return out.with_name(f"{out.stem}-{shard:05d}-of-{num_shards:05d}.beton")
