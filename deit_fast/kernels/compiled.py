"""The decorator of all functions that Numba compiles for the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from deit_fast.kernels.cached import cached
from deit_fast.kernels.inner import Function


def compiled(*, parallel: bool = False, inlined: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Decorator: numba.njit without the interpreter lock.

    Compiled functions take the function in; called from Python, it is compiled and cached for itself.

    parallel: `prange` loops run on all threads; only Python calls such a function. inlined: LLVM puts the function into its
    callers however long it is: a loop with a call in it is not vectorised.
    """
    options = {"nogil": True, "forceinline": inlined}

    def compile_function(function: Callable[..., Any]) -> Any:
        if parallel:
            return cached(function, parallel=True, **options)
        return Function(function, targetoptions={"nopython": True, **options})

    return compile_function
