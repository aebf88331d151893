"""Takes stock FFCV, gives it without a defect that breaks compiled functions which several loaders share.

`OSCacheManager.state_type` marks `numba.uint8[::1]` read-only by writing to the type object. Numba hands out that object to
everyone who names the type, and has its attributes in its hash: from the second loader of a process on, functions that were
compiled for it can no longer be found (KeyError). Here the types are left to Numba, which reads them off the arguments.
"""

from __future__ import annotations

import numpy as np
from ffcv.memory_managers.os_cache import OSCacheManager

from deit_fast.kernels.compiled import compiled


@compiled()
def read_mapped(address, state):  # type: ignore[no-untyped-def]
    """The bytes stored at an address of a memory-mapped beton, (n,) uint8, read-only; state: OSCacheContext's."""
    memory, addresses, sizes = state
    return memory[address : address + sizes[np.searchsorted(addresses, address)]]


def repair_ffcv() -> None:
    """Replaces the method for all loaders of this process, stock ones too; a second call changes nothing."""
    OSCacheManager.compile_reader = lambda self: read_mapped
