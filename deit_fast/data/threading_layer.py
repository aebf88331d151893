"""Takes what runs Numba's parallel loops, its threading layer, gives what loaders have to know of it."""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numba

_turn = threading.Lock()


def prefer_openmp() -> None:
    """Numba is to take OpenMP before TBB, unless the environment says what it is to take.

    Must come before Numba starts its threads, which loads OpenMP. Threads that wait then sleep soon (unless the environment
    says how long they spin), instead of turning round for milliseconds, which beside other work halves what a loader gives.
    With TBB Numba makes an arena for each parallel loop, and many are never given back (numba/numba#10225 and #10556): Numba
    0.68 with TBB 2021.8 on 2 cores lost 44 KB with each batch, and became ever slower.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if "NUMBA_THREADING_LAYER_PRIORITY" not in os.environ:
        numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]


def one_at_a_time() -> AbstractContextManager[Any]:
    """Numba's simplest threading layer, its last resort, ends the process if two threads start parallel work at once."""
    return _turn if numba.config.THREADING_LAYER == "workqueue" or _layer() == "workqueue" else nullcontext()


def _layer() -> str:
    try:
        layer: str = numba.threading_layer()
        return layer
    except ValueError:  # before anything ran in parallel
        return "workqueue"
