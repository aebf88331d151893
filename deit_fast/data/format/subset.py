"""Chooses a subset of a data set in which every class keeps its share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def stratified(labels: NDArray[np.int32], num_classes: int, count: int, seed: int) -> NDArray[np.int64]:
    """Sorted numbers of `count` samples, drawn from each class by its share, without replacement.

    Rounds shares down, then those with the largest remainders up until the sum is count. The result is the same for the same
    labels, count and seed.
    """
    sizes = np.bincount(labels, minlength=num_classes)
    exact = sizes * (count / len(labels))
    shares = np.floor(exact).astype(np.int64)
    order = np.lexsort((np.arange(num_classes), shares - exact))  # the largest remainder first, then the smaller label
    shares[order[: count - int(shares.sum())]] += 1
    generator = np.random.Generator(np.random.Philox(seed))
    by_label = np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1])
    chosen = [generator.permutation(samples)[:share] for samples, share in zip(by_label, shares, strict=True)]
    return np.sort(np.concatenate(chosen))
