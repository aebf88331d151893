"""Opens several betons as one sequence of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_fast.config import UserError
from deit_fast.data.format import layout
from deit_fast.data.format.beton import Beton, open_beton, read_manifest
from deit_fast.data.format.beton_list import listed_betons
from deit_fast.data.format.classes import union_of_classes
from deit_fast.data.format.index import Index, read_index


@dataclass(frozen=True, eq=False)
class Joined:
    """The samples of several betons, one beton after the other.

    `starts`: (number of betons + 1,) the number of each beton's first sample, and of all. `classes`: by name, those of all;
    decimal numbers if the betons have no names. `labels`: (num_samples,) in these classes. `widths`, `heights`, `modes`,
    `sizes`: (num_samples,) int64, as a Beton has them. `indexes` and `manifests`: None where a beton has none.
    """

    betons: tuple[Beton, ...]
    indexes: tuple[Index | None, ...]
    manifests: tuple[dict[str, Any] | None, ...]
    starts: NDArray[np.int64]
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    widths: NDArray[np.int64]
    heights: NDArray[np.int64]
    modes: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @property
    def num_samples(self) -> int:
        return int(self.starts[-1])

    def of_beton(self, number: int, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """Those among ascending sample numbers that lie in a beton, as numbers within it."""
        first, end = np.searchsorted(samples, self.starts[number : number + 2])
        return samples[first:end] - self.starts[number]


def open_joined(option: str, paths: Sequence[str]) -> Joined:
    """Opens the betons that an option, `section.name`, lists, in its order.

    Each path may be a pattern or have a weight, see `listed_betons`. Raises UserError for none, one with other fields than
    image and label, what open_beton and listed_betons refuse, and classes that have no union.
    """
    if not paths:
        raise UserError(f"{option} is not set: want one or more betons")
    listed = listed_betons(",".join(paths), option)
    betons = tuple(beton for one in listed for beton in [open_beton(one.path)] * one.times)
    for beton in betons:
        if beton.field_names != tuple(layout.FIELDS):
            raise UserError(
                f"{beton.path}: has the fields {', '.join(beton.field_names)}: want {' and '.join(layout.FIELDS)} alone, in "
                "this order"
            )
    classes, label_maps = union_of_classes(betons)
    labels = [beton.labels if new is None else new[beton.labels] for beton, new in zip(betons, label_maps, strict=True)]
    return Joined(
        betons=betons,
        indexes=tuple(map(read_index, betons)),
        manifests=tuple(read_manifest(beton.path) for beton in betons),
        starts=np.cumsum([0, *(beton.num_samples for beton in betons)]),
        classes=classes if classes is not None else tuple(map(str, range(max(beton.num_classes for beton in betons)))),
        labels=np.concatenate(labels),
        **{name: _column(betons, name) for name in ("widths", "heights", "modes", "sizes")},
    )


def _column(betons: Sequence[Beton], name: str) -> NDArray[np.int64]:
    return np.concatenate([getattr(beton, name).astype(np.int64) for beton in betons])
