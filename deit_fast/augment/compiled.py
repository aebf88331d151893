"""Takes a function, gives it compiled by Numba and cached on disk until any source that it may have taken in changes.

Numba's cache of a function goes stale when the function's own file changes. But a compiled function contains those that it
calls, from whichever file: after a change to `resample.py` the cached code of `decode.py` would go on as before. Here
the cache's stamp covers every file of the rooms whose functions call each other.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

_ROOMS = ("augment", "data")


def sources_stamp(package: Path = Path(__file__).parents[1], *, kernels: bool = False) -> str:
    """A digest of name, size and time of change of every Python file in the rooms that compile functions.

    kernels: those of `augment/kernels` as well, which take in functions of other files, and are taken in by none.
    """
    files = sorted(path for room in _ROOMS for path in (package / room).rglob("*.py"))
    files = [path for path in files if kernels or path.parent.name != "kernels"]
    facts = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    return hashlib.sha256(repr(facts).encode()).hexdigest()


_STAMP = sources_stamp()


@functools.cache
def _say_that_nothing_is_cached() -> None:
    print(
        "deit_fast: no folder can be written to for compiled functions: they are compiled anew in each process, which takes "
        "a minute; NUMBA_CACHE_DIR=FOLDER names one",
        file=sys.stderr,
    )


def stamped(dispatcher: Any, stamp: str) -> Any:
    """A dispatcher whose cache on disk lasts as long as the stamp of its sources stays the same."""
    cache_file = dispatcher._cache._cache_file
    assert hasattr(cache_file, "_source_stamp"), "Numba keeps its cache's stamp elsewhere"
    cache_file._source_stamp = stamp
    return dispatcher


def compiled(*, parallel: bool = False, inlined: bool = False) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: numba.njit without the interpreter lock, cached on disk.

    parallel: `prange` loops run on all threads. inlined: LLVM puts the function into its callers however long it is: a loop
    with a call in it is not vectorised.
    """
    options = {"nogil": True, "parallel": parallel, "forceinline": inlined}

    def compile_function(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            dispatcher: Any = numba.njit(cache=True, **options)(function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            _say_that_nothing_is_cached()
            return numba.njit(**options)(function)
        return stamped(dispatcher, _STAMP)

    return compile_function
