"""Work in threads: all of it, several at a time, and the first error."""

from __future__ import annotations

import threading

import pytest

from deit_fast.data.fetch.parallel import for_each


@pytest.mark.parametrize("num_threads", [1, 3, 20])
def test_each_item_once(num_threads: int) -> None:
    done: list[int] = []
    for_each(done.append, range(10), num_threads)
    assert sorted(done) == list(range(10))


def test_several_at_a_time() -> None:
    both = threading.Barrier(2, timeout=30)

    def meet(item: int) -> None:
        both.wait()

    for_each(meet, range(2), 2)
    assert not both.broken


@pytest.mark.parametrize("num_threads", [1, 2])
def test_an_error_is_raised_and_ends_the_rest(num_threads: int) -> None:
    done: list[int] = []

    def work(item: int) -> None:
        if item == 2:
            raise KeyError(item)
        done.append(item)

    with pytest.raises(KeyError):
        for_each(work, range(1000), num_threads)
    assert len(done) < 1000
