"""Divides a conversion into shards, each a beton that is whole by itself.

A shard is a run of the conversion's parts. Which it is follows from the source, the settings and the number of shards, so that
several machines can write a shard each, with the bytes that one machine would write.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any

from deit_fast.config import UserError, WriteConfig
from deit_fast.data.convert.conversion import Conversion, estimated_bytes
from deit_fast.data.format.beton import read_manifest
from deit_fast.data.format.shard import Shard, read_shard

_TRIAL_SAMPLES = 256  # to estimate the size of all shards together
_ONLY = re.compile(r"(\d+)/(\d+)")


def is_split(config: WriteConfig) -> bool:
    """Whether a conversion writes shards."""
    return config.shards is not None or config.shard_gb is not None or bool(config.only)


def check_split(config: WriteConfig) -> None:
    """Raises UserError for options about shards that contradict each other."""
    if config.shards is not None and config.shard_gb is not None:
        raise UserError(f"write.shards={config.shards}, write.shard_gb={config.shard_gb:g}: want one of them")
    if not config.only:
        return
    number, count = _only(config)
    if not number < count:
        raise UserError(f"write.only={config.only}: want 0/{count} to {count - 1}/{count}, as in the names of the files")
    if config.shards not in (None, count):
        raise UserError(f"write.only={config.only}: write.shards={config.shards}; want the same number of shards in both")


def _only(config: WriteConfig) -> tuple[int, int]:
    found = _ONLY.fullmatch(config.only)
    if found is None or int(found[2]) < 1:
        raise UserError(f"write.only={config.only}: want NUMBER/SHARDS, such as 3/16, or all")
    return int(found[1]), int(found[2])


def shards_to_write(whole: Conversion, settings: dict[str, Any], config: WriteConfig) -> list[Shard]:
    """The shards that this process is to write; `part_sizes` are still to come. settings: what the bytes depend on.

    Raises UserError for more shards than there are parts, and for a write.only of another number than write.shard_gb gives.
    """
    count = config.shards or (_only(config)[1] if config.only else 0)
    if config.shard_gb is not None:
        count = _count_by_size(whole, config.shard_gb)
        if config.only and count != _only(config)[1]:
            raise UserError(f"write.only={config.only}: write.shard_gb={config.shard_gb:g} gives {count} shards of this source")
    if count > whole.num_parts:
        raise UserError(
            f"write.shards={count}: want at most {whole.num_parts}, since images are converted in {whole.num_parts} parts"
        )
    conversion = {name: value for name, value in settings.items() if name != "versions"}
    digest = hashlib.sha256(json.dumps(conversion, sort_keys=True).encode()).hexdigest()
    numbers = [_only(config)[0]] if config.only else range(count)
    return [_shard(whole, digest, number, count) for number in numbers]


def _count_by_size(whole: Conversion, shard_gb: float) -> int:
    """The number of shards of about that size: alike on any machine, since the estimate is."""
    return max(1, math.ceil(estimated_bytes(whole, _TRIAL_SAMPLES) / (shard_gb * 1e9)))


def _shard(whole: Conversion, digest: str, number: int, count: int) -> Shard:
    samples = whole.of_parts(parts_of(whole, number, count)).all_samples
    return Shard(digest, number, count, samples.start, len(samples), whole.source.num_samples)


def parts_of(whole: Conversion, number: int, count: int) -> range:
    """The parts of a conversion that a shard holds."""
    return range(number * whole.num_parts // count, (number + 1) * whole.num_parts // count)


def written_shard(path: Path, shard: Shard) -> dict[str, Any] | None:
    """The manifest of a shard that an earlier run of the same conversion has finished at a path; None if there is none."""
    try:
        manifest = read_manifest(path)
        found = read_shard(manifest, path)
    except UserError:
        return None
    if manifest is None or found is None or not path.is_file():
        return None
    is_same = (found.conversion, found.number, found.count) == (shard.conversion, shard.number, shard.count)
    return manifest if is_same and path.stat().st_size == manifest.get("file_bytes") else None
