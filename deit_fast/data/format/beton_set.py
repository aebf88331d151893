"""Opens several betons as one set of images, in the order in which they are named.

The samples of a set are numbered through all its files. A file whose samples are shown twice an epoch stands there twice: they
are different samples, with other random numbers. All files lie on a line, one behind the other: a position on the line is what
an offset is in a single file.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import UserError
from deit_fast.data.format.beton import Beton, open_beton
from deit_fast.data.format.beton_list import listed_betons
from deit_fast.data.format.classes import union_of_classes
from deit_fast.data.format.layout import aligned
from deit_fast.data.format.shard import Shard, is_whole, places_in_one

# Between files on the line. Constants, since the order by pages follows from positions: larger than a page of any machine, and
# than a gap that is read along with the images around it.
_GAP_BYTES = _LINE_ALIGNMENT = 1 << 20


@dataclass(frozen=True)
class Stretch:
    """A file of a set: its samples are num_samples from first_sample on, its first byte lies at `start` on the line."""

    path: Path
    num_samples: int
    first_sample: int
    start: int


@dataclass(frozen=True, eq=False)
class BetonSet:
    """Betons with valid structures, as one set. Arrays have one element for each sample, as those of a `Beton`.

    `name`: for messages. `stretches`: its files, one that is shown several times as often. `classes`: names of all, None if
    none has any; `labels` are places in them. `offsets`: of the stored images, in bytes on the line; in a set of one file its
    own offsets. `shards`: which shard of a conversion each stretch is, None if it is none.
    """

    name: str
    stretches: tuple[Stretch, ...]
    classes: tuple[str, ...] | None
    labels: NDArray[np.int64]
    widths: NDArray[np.uint16]
    heights: NDArray[np.uint16]
    modes: NDArray[np.uint8]
    offsets: NDArray[np.uint64]
    sizes: NDArray[np.uint64]
    shards: tuple[Shard | None, ...]

    @functools.cached_property
    def places(self) -> NDArray[np.uint64] | None:
        """Where the images would lie (num_samples,) in one beton of the files, which are all shards of a conversion in their
        order; None if they are not."""
        whole = [shard for shard in self.shards if shard is not None]
        return places_in_one(whole, self.sizes) if len(whole) > 1 and is_whole(self.shards) else None

    @property
    def remarks(self) -> list[str]:
        """A line for each conversion of which shards are missing."""
        numbers: dict[tuple[str, int], set[int]] = {}
        for shard in self.shards:
            if shard is not None:
                numbers.setdefault((shard.conversion, shard.count), set()).add(shard.number)
        return [
            f"{self.name}: has {len(found)} of the {count} shards of a conversion; the first that is missing is number "
            f"{min({*range(count)} - found)}"
            for (_, count), found in numbers.items()
            if len(found) < count
        ]

    @property
    def num_samples(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Number of class names; without any, the largest label + 1."""
        return len(self.classes) if self.classes is not None else int(self.labels.max()) + 1

    @property
    def paths(self) -> list[Path]:
        """Its files, each once."""
        return list(dict.fromkeys(stretch.path for stretch in self.stretches))

    def stretches_of(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of the stretch that holds each sample, int64."""
        firsts = [stretch.first_sample for stretch in self.stretches]
        return np.searchsorted(firsts, samples, side="right") - 1

    def where(self, sample: int) -> tuple[Stretch, int]:
        """The stretch that holds a sample, and the offset of its image in that file."""
        stretch = self.stretches[int(self.stretches_of(np.array([sample]))[0])]
        return stretch, int(self.offsets[sample]) - stretch.start

    def described(self, sample: int) -> str:
        """A sample's number; in a set of several files also its file, and its number there."""
        stretch, _ = self.where(sample)
        own = f", sample {sample - stretch.first_sample} of {stretch.path}" if len(self.stretches) > 1 else ""
        return f"sample {sample}{own}"


def open_set(text: str, option: str) -> BetonSet:
    """The betons that an option names, see `listed_betons`, as one set.

    Raises UserError as `open_beton` does, and where betons cannot be joined: see `union_of_classes`.
    """
    listed = listed_betons(text, option)
    return _joined([(open_beton(one.path), one.times) for one in listed], text if len(listed) > 1 else str(listed[0].path))


def set_of(betons: Beton | BetonSet) -> BetonSet:
    """A beton as a set of one file; a set is one already."""
    return betons if isinstance(betons, BetonSet) else _joined([(betons, 1)], betons.name)


def check_each_once(betons: BetonSet, option: str) -> None:
    """Raises UserError if a file stands in the set more than once."""
    if len(betons.paths) < len(betons.stretches):
        raise UserError(f"{option}={betons.name}: has a weight; an evaluation counts each image once; leave it out")


def _check_shards(betons: Sequence[Beton]) -> None:
    """Raises UserError for two betons that hold images of one conversion: other cuts of it, or copies of a shard."""
    seen: dict[str, dict[int, Beton]] = {}
    for beton in betons:
        if beton.shard is None:
            continue
        others = seen.setdefault(beton.shard.conversion, {})
        other = others.get(beton.shard.number) or next(iter(others.values()), beton)
        assert other.shard is not None
        if other is not beton and (other.shard.count != beton.shard.count or other.shard.number == beton.shard.number):
            raise UserError(
                f"{beton.path}: is shard {beton.shard.number} of {beton.shard.count}, {other.path} is shard "
                f"{other.shard.number} of {other.shard.count} of the same images; want the shards of one number, each once"
            )
        others[beton.shard.number] = beton


def _joined(betons: Sequence[tuple[Beton, int]], name: str) -> BetonSet:
    """Betons, each so many times, as one set."""
    _check_shards([beton for beton, _ in betons])
    classes, new_labels = union_of_classes([beton for beton, _ in betons])
    stretches: list[Stretch] = []
    columns: dict[str, list[NDArray[Any]]] = {name: [] for name in ("labels", "widths", "heights", "modes", "offsets", "sizes")}
    first_sample = start = 0
    for (beton, times), labels in zip(betons, new_labels, strict=True):
        num_bytes = beton.path.stat().st_size
        changed = {} if labels is None else {"labels": labels[beton.labels]}
        for _ in range(times):
            stretches.append(Stretch(beton.path, beton.num_samples, first_sample, start))
            shifted = {"offsets": beton.offsets + np.uint64(start)} if start else {}
            for column, parts in columns.items():
                parts.append({**changed, **shifted}.get(column, getattr(beton, column)))
            first_sample += beton.num_samples
            start = aligned(start + num_bytes, _LINE_ALIGNMENT) + _GAP_BYTES
    joined = {column: parts[0] if len(parts) == 1 else np.concatenate(parts) for column, parts in columns.items()}
    shards = tuple(beton.shard for beton, times in betons for _ in range(times))
    return BetonSet(name, tuple(stretches), classes, **joined, shards=shards)
