"""Where images are put: none across a page, none over another, little left empty."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deit_fast.data.format import layout

PAGE = layout.PAGE_BYTES


@given(
    sizes=st.lists(st.one_of(st.integers(1, 300_000), st.integers(PAGE // 2, 5 * PAGE)), max_size=80),
    end=st.integers(0, 3 * PAGE),
)
def test_no_image_crosses_a_page_or_overlaps(sizes: list[int], end: int) -> None:
    offsets, last = layout.place(np.array(sizes, np.int64), end)
    page = layout.enclosing_page(max(sizes, default=1))
    places = sorted(zip(offsets.tolist(), sizes, strict=True))
    before = end
    for offset, size in places:
        assert offset // page == (offset + size - 1) // page
        assert offset == before or (offset > before and offset % layout.enclosing_page(size) == 0)
        before = offset + size
    assert last == before


def test_images_of_photographs_leave_little_of_a_page_empty() -> None:
    generator = np.random.Generator(np.random.PCG64(0))
    end, total = 0, 0
    for _ in range(200):
        sizes = generator.integers(60_000, 200_000, 64)
        _, end = layout.place(sizes, end)
        total += int(sizes.sum())
    assert end < 1.004 * total


def test_enclosing_page() -> None:
    assert [layout.enclosing_page(size) for size in (1, PAGE, PAGE + 1, 3 * PAGE)] == [PAGE, PAGE, 2 * PAGE, 4 * PAGE]
