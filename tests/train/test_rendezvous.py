"""Ranks of one start find each other in a store where earlier starts have left their keys."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from torch._C._distributed_c10d import HashStore, Store

from deit_fast.train.rendezvous import new_part_of


def _start(store: Store, world_size: int) -> list[Store]:
    """The parts of all ranks of a start, the last rank first to come."""
    with ThreadPoolExecutor(world_size) as pool:
        parts = [pool.submit(new_part_of, store, rank, world_size) for rank in reversed(range(world_size))]
        return [part.result(20) for part in reversed(parts)]


@pytest.mark.parametrize("world_size", [2, 5])
def test_every_start_has_a_part_of_its_own(world_size: int) -> None:
    store = HashStore()
    for _ in range(3):
        parts = _start(store, world_size)
        assert not any(part.check(["address of 0"]) for part in parts)
        parts[0].set("address of 0", "here")
        assert all(part.get("address of 0") == b"here" for part in parts)


def test_a_start_that_nobody_finished_is_passed_over() -> None:
    store = HashStore()
    for dead in (0, 1):
        with pytest.raises(TimeoutError, match="waited for"):
            new_part_of(store, dead, 3, timedelta(seconds=0.05))
    first, second, third = _start(store, 3)
    first.set("key", "value")
    assert second.get("key") == third.get("key") == b"value"
