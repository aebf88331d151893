"""Says which samples of joined betons go into a new one, and with which labels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from deit_fast.data.regroup.joined import Joined


@dataclass(frozen=True, eq=False)
class Choice:
    """`samples`: (n,) ascending numbers of joined samples; `labels`: (n,) their labels in `classes`."""

    samples: NDArray[np.int64]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]

    def at(self, first: int, end: int) -> Choice:
        """The chosen samples from first up to end; all classes stay."""
        return Choice(self.samples[first:end], self.labels[first:end], self.classes)


def all_samples(joined: Joined) -> Choice:
    return Choice(np.arange(joined.num_samples), joined.labels, joined.classes)


def these_samples(joined: Joined, is_chosen: NDArray[np.bool_]) -> Choice:
    """Those of all samples (num_samples,) for which is_chosen; all classes stay."""
    samples = np.flatnonzero(is_chosen)
    return Choice(samples, joined.labels[samples], joined.classes)
