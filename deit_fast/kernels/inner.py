"""Functions that our compiled code takes in, and that Python may call too, as tests do."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from deit_fast.kernels.cached import OWN_OPTIONS, cached
from deit_fast.kernels.parts import Part


class Function(Part):
    """A function that compiled code takes in. A call from Python goes to `cached`."""

    def __init__(self, py_func: Callable[..., Any], targetoptions: dict[str, Any]) -> None:
        super().__init__(py_func, targetoptions=OWN_OPTIONS | targetoptions)
        self.targetoptions = targetoptions  # which numba-cuda takes for its own compiler
        functools.update_wrapper(self, py_func)

    def __call__(self, *arguments: Any) -> Any:
        return self.cached(*arguments)

    @functools.cached_property
    def cached(self) -> Any:
        """The same function with machine code of its own, cached on disk: for Python, and for code that others compile."""
        options = {name: value for name, value in self.targetoptions.items() if name != "nopython"}
        return cached(self.py_func, **options)
