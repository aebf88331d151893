"""The loop of `data.format.layout.place`: where in a beton its images lie."""

from __future__ import annotations

import numpy as np

from deit_fast.kernels.compiled import compiled


@compiled()
def _page_of(size, page_bytes):  # type: ignore[no-untyped-def]
    """The smallest page that holds an image: page_bytes, or that times a power of two."""
    page = page_bytes
    while page < size:
        page *= 2
    return page


@compiled()
def _crosses(start, size, page_bytes):  # type: ignore[no-untyped-def]
    page = _page_of(size, page_bytes)
    return start // page != (start + size - 1) // page


@compiled()
def place(sizes, part_sizes, end, page_bytes):  # type: ignore[no-untyped-def]
    """File offsets (n,) int64 for images of these sizes in bytes (n,) int64, and where the last ends.

    part_sizes (p,) int64: number of images in each part; one part lies behind the other, the first at or after `end`.
    """
    offsets = np.empty(len(sizes), np.int64)
    is_placed = np.zeros(len(sizes), np.bool_)
    first = np.int64(0)
    for num_images in part_sizes:
        last = first + num_images
        waiting = first  # the first image that has no place yet
        while waiting < last:
            chosen = waiting
            while chosen < last and (is_placed[chosen] or _crosses(end, sizes[chosen], page_bytes)):
                chosen += 1
            if chosen == last:
                chosen = waiting
                page = _page_of(sizes[chosen], page_bytes)
                end = (end + page - 1) // page * page
            offsets[chosen] = end
            end += sizes[chosen]
            is_placed[chosen] = True
            while waiting < last and is_placed[waiting]:
                waiting += 1
        first = last
    return offsets, end
