"""The two loops of `data.load.page_order`: where chunks of a file begin, and where on the line of an epoch an image lies."""

from __future__ import annotations

import numpy as np

from deit_fast.kernels import rng
from deit_fast.kernels.compiled import compiled

_SPREAD_BLOCK = 1  # of rng.ORDER's blocks for a sample; block 0 is the permutation


@compiled()
def cut(starts, ends, chunk_bytes, gap_bytes):  # type: ignore[no-untyped-def]
    """Of images in the order of their starts: does a chunk begin with it, does a range. Two bool (n,)."""
    begins_chunk = np.zeros(len(starts), np.bool_)
    begins_range = np.zeros(len(starts), np.bool_)
    num_bytes = np.int64(0)
    end = np.int64(0)
    for image in range(len(starts)):
        is_near = image > 0 and starts[image] <= end + gap_bytes
        added = max(ends[image] - end, np.int64(0)) if is_near else ends[image] - starts[image]
        if image == 0 or num_bytes + added > chunk_bytes:
            begins_chunk[image] = begins_range[image] = True
            num_bytes = ends[image] - starts[image]
            end = ends[image]
        else:
            begins_range[image] = not is_near
            num_bytes += added
            end = max(end, ends[image])
    return begins_chunk, begins_range


@compiled()
def spread(samples, first_samples, chunk_starts, reach, seed, base):  # type: ignore[no-untyped-def]
    """Samples, each chunk's in random order, and where on the line each lies: int64 and float64 (n,)."""
    shuffled = samples.copy()
    places = np.empty(len(samples), np.float64)
    for chunk in range(len(chunk_starts)):
        first = first_samples[chunk]
        count = first_samples[chunk + 1] - first
        for position in range(count - 1, -1, -1):
            here = first + position
            a, b, _, _ = rng.words(seed, base | np.uint64(here), rng.ORDER, _SPREAD_BLOCK)
            other = first + np.int64((a * np.uint64(position + 1)) >> np.uint64(32))
            shuffled[here], shuffled[other] = shuffled[other], shuffled[here]
            places[here] = chunk_starts[chunk] + reach * ((position + b * 2.0**-32) / count)
    return shuffled, places
