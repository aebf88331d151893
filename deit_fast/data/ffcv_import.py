"""Imports stock FFCV in a fraction of a second instead of three, without starting threads, and repairs a defect."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numba.typed

from deit_fast.data.load.threading_layer import prefer_openmp


def import_ffcv() -> None:
    """Imports FFCV with a plain dictionary for its two image modes, and leaves Numba's threads alone.

    `ffcv.fields.rgb_image` keeps the modes in a Numba dictionary, for which Numba compiles for seconds in every process, and
    which only interpreted code looks into. `ffcv.pipeline.compiler` sets Numba's number of threads, which starts them: a
    process that is forked later could not run anything in parallel. Must come before anything else imports FFCV; does nothing
    of this after that. See `_repair` for the rest.
    """
    if "ffcv" in sys.modules:
        _repair()
        return
    prefer_openmp()
    typed_dict, set_num_threads = numba.typed.Dict, numba.set_num_threads
    numba.typed.Dict, numba.set_num_threads = dict, lambda number: None
    try:
        compiler = importlib.import_module("ffcv.pipeline.compiler")
        importlib.import_module("ffcv.fields.rgb_image")
        compiler.set_num_threads = set_num_threads  # type: ignore[attr-defined]
    finally:
        numba.typed.Dict, numba.set_num_threads = typed_dict, set_num_threads
    _repair()


def _repair() -> None:
    """Repairs a defect in FFCV's OSCacheManager that breaks our compiled functions, for all loaders of this process.

    `state_type` marks `numba.uint8[::1]` read-only by writing to the type object. Numba hands out that object to everyone who
    names the type, and has its attributes in its hash: from the second loader of a process on, functions that were compiled
    for it can no longer be found (KeyError). With this reader the types are left to Numba, which reads them off the arguments.
    """
    from ffcv.memory_managers.os_cache import OSCacheManager

    OSCacheManager.compile_reader = _reader


def _reader(manager: object) -> Any:
    from deit_fast.kernels.by_address import read_mapped

    return read_mapped.cached
