"""Says which part of a conversion a shard holds, and where its images would lie in one beton of all shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import UserError
from deit_fast.data.format import layout


@dataclass(frozen=True)
class Shard:
    """An entry of a shard's manifest.

    conversion: digest of the source and the settings, the same for all shards of one conversion. number: 0 to count - 1.
    first_sample, num_samples: of the source; num_source_samples: of all shards together. part_sizes: images of each part of the
    conversion, see `Source.part_starts`, without those that were skipped.
    """

    conversion: str
    number: int
    count: int
    first_sample: int
    num_samples: int
    num_source_samples: int
    part_sizes: tuple[int, ...] = ()

    @property
    def samples(self) -> range:
        """Numbers of its samples in the source."""
        return range(self.first_sample, self.first_sample + self.num_samples)

    def entry(self) -> dict[str, Any]:
        """As JSON."""
        return {**asdict(self), "part_sizes": list(self.part_sizes)}


def shard_path(out: Path, number: int, count: int) -> Path:
    """The path of a shard of OUT.beton: OUT-00003-of-00016.beton, so that names sort as numbers do."""
    return out.with_name(f"{out.name.removesuffix('.beton')}-{number:05}-of-{count:05}.beton")


def read_shard(manifest: dict[str, Any] | None, path: Path) -> Shard | None:
    """The entry of a manifest at a path; None if its beton is no shard. Raises UserError if it is not one that we write."""
    entry = (manifest or {}).get("shard")
    if entry is None:
        return None
    try:
        return Shard(**{**entry, "part_sizes": tuple(map(int, entry["part_sizes"]))})
    except (TypeError, KeyError, ValueError) as error:
        raise UserError(f"{path}: its entry `shard` is none of ours; move the manifest away, or convert again") from error


def is_whole(shards: Sequence[Shard | None]) -> bool:
    """Whether these are all shards of one conversion, in their order."""
    first = shards[0]
    if first is None or len(shards) != first.count:
        return False
    found = [(shard.conversion, shard.number, shard.count) for shard in shards if shard is not None]
    return found == [(first.conversion, number, first.count) for number in range(first.count)]


def places_in_one(shards: Sequence[Shard], sizes: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The offsets (n,) that images of these sizes (n,) would have in one beton of all shards, which are whole."""
    part_sizes = np.array([size for shard in shards for size in shard.part_sizes], np.int64)
    offsets, _ = layout.place(sizes.astype(np.int64), layout.data_start(shards[0].num_source_samples), part_sizes)
    return offsets.astype(np.uint64)
