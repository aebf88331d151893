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


def _placed(sizes: list[int], part_sizes: list[int], end: int) -> tuple[list[int], int]:
    """The rule of `layout.place`, in the words of its docstring."""
    offsets: dict[int, int] = {}
    first = 0
    for count in part_sizes:
        waiting = list(range(first, first + count))
        while waiting:
            pages = {image: layout.enclosing_page(sizes[image]) for image in waiting}
            fitting = [image for image in waiting if end // pages[image] == (end + sizes[image] - 1) // pages[image]]
            image = fitting[0] if fitting else waiting[0]
            offsets[image] = end if fitting else layout.aligned(end, pages[image])
            end = offsets[image] + sizes[image]
            waiting.remove(image)
        first += count
    return [offsets[image] for image in range(len(sizes))], end


@given(
    sizes=st.lists(st.one_of(st.integers(1, 3 << 20), st.integers(PAGE // 2, 3 * PAGE)), max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=4),
    end=st.integers(0, 3 * PAGE),
)
def test_images_change_places_within_their_part_alone(sizes: list[int], cuts: list[int], end: int) -> None:
    bounds = sorted({0, len(sizes), *(min(cut, len(sizes)) for cut in cuts)})
    part_sizes = np.diff(bounds)
    offsets, last = layout.place(np.array(sizes, np.int64), end, part_sizes)
    assert (offsets.tolist(), last) == _placed(sizes, part_sizes.tolist(), end)
    first = 0
    for count in part_sizes.tolist():  # as a conversion does it, part by part
        part, end = layout.place(np.array(sizes[first : first + count], np.int64), end)
        assert part.tolist() == offsets[first : first + count].tolist()
        first += count
