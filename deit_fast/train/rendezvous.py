"""Gives each start of the ranks a part of its own in the store of torchrun's agents.

PyTorch's process groups write their addresses into that store under keys that are the same at every start. Workers started
again after a death may then read the addresses of the dead and fail, or wait for ever (pytorch/pytorch#135712). The count of
restarts that torchrun tells each worker cannot tell the starts apart: it counts those that the worker's own node has caused.
"""

from __future__ import annotations

import json
import time
import uuid
from datetime import timedelta

from torch._C._distributed_c10d import PrefixStore, Store

PATIENCE = timedelta(minutes=30)  # as long as PyTorch's process groups wait for their ranks
_PAUSE = 0.01  # seconds


def new_part_of(store: Store, rank: int, world_size: int, patience: timedelta = PATIENCE) -> Store:
    """The part of a store that the world_size ranks of one start share, and no earlier start wrote to.

    Rank 0 proposes a name. Others answer, with a name of their own, until a list of those that rank 0 heard from holds theirs:
    a proposal left by an earlier rank 0 has no such list. Raises TimeoutError where a rank does not come within patience."""
    deadline = time.monotonic() + patience.total_seconds()
    name = uuid.uuid4().hex
    if rank == 0:
        store.set("start", name)
        start = PrefixStore(name, store)
        start.set("present", json.dumps([_answer_of(start, other, deadline) for other in range(1, world_size)]))
        return start
    while True:
        start = PrefixStore(_value(store, "start", deadline), store)
        start.set(f"answer of {rank}", name)
        if start.check(["present"]) and name in json.loads(start.get("present")):
            return start
        _pause(deadline, "rank 0")


def _answer_of(start: Store, rank: int, deadline: float) -> str:
    return _value(start, f"answer of {rank}", deadline)


def _value(store: Store, key: str, deadline: float) -> str:
    """The value of a key, as soon as some rank has set it."""
    while not store.check([key]):
        _pause(deadline, key)
    return store.get(key).decode()


def _pause(deadline: float, awaited: str) -> None:
    if time.monotonic() > deadline:
        raise TimeoutError(f"the ranks did not meet: waited for {awaited}")
    time.sleep(_PAUSE)
