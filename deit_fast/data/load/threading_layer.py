"""Chooses and checks Numba's threading layer, which runs its parallel loops."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numba

from deit_fast.config import UserError

_turn = threading.Lock()
_inherited_layer: str | None = None  # of the process that this one was forked from, where that had started its threads


def prefer_openmp() -> None:
    """Makes Numba prefer OpenMP to TBB, unless the environment sets the layer.

    Must come before Numba starts its threads, which loads OpenMP. Waiting threads then sleep soon (unless the environment says
    how long they spin), instead of spinning for milliseconds, which halves a loader's rate beside other work.
    With TBB Numba makes an arena for each parallel loop, and many are never given back (numba/numba#10225 and #10556): Numba
    0.68 with TBB 2021.8 on 2 cores lost 44 KB with each batch, and became ever slower.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    if "NUMBA_THREADING_LAYER_PRIORITY" not in os.environ:
        numba.config.THREADING_LAYER_PRIORITY = ["omp", "tbb", "workqueue"]


def one_at_a_time() -> AbstractContextManager[Any]:
    """Numba's simplest threading layer, its last resort, ends the process if two threads start parallel work at once."""
    return _turn if numba.config.THREADING_LAYER == "workqueue" or _layer() in (None, "workqueue") else nullcontext()


def check_threads() -> None:
    """Raises UserError in a process that was forked after OpenMP's threads had started; Numba would end it."""
    if _inherited_layer == "omp" and sys.platform == "linux":
        raise UserError(
            "this process was forked from one in which OpenMP's threads ran already (from a loader's first batch on, or where "
            "ffcv was imported before deit_fast), and no loader can run in it: start it by "
            "multiprocessing.get_context('spawn') or 'forkserver', to which a loader may be sent, or fork earlier"
        )


def _layer() -> str | None:
    """The layer that runs; None before anything ran in parallel."""
    try:
        layer: str = numba.threading_layer()
        return layer
    except ValueError:
        return None


def _after_fork() -> None:
    global _inherited_layer, _turn
    _inherited_layer = _layer()
    _turn = threading.Lock()  # which another thread may have held


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
