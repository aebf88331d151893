"""Takes kernels, gives them compiled for this machine's processor, as if each block were one thread.

The simulator runs kernels in Python, on NumPy's numbers. Compiled, numbers have the types that Numba infers, on the GPU as
here, and whole batches take seconds. What threads owe each other is for the simulator.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numba
import numpy as np

from deit_fast.augment import kernels

LAYER = "deit_fast.augment.cuda"


@numba.njit
def _add(array, place, value):  # type: ignore[no-untyped-def]
    array[place] += value


@numba.njit
def _least(array, place, value):  # type: ignore[no-untyped-def]
    array[place] = min(array[place], value)


@numba.njit
def _greatest(array, place, value):  # type: ignore[no-untyped-def]
    array[place] = max(array[place], value)


@numba.njit
def _array(size, dtype):  # type: ignore[no-untyped-def]
    return np.full(size, 77, dtype)


@numba.njit
def _nothing():  # type: ignore[no-untyped-def]
    pass


def _module(name: str, **members: Any) -> ModuleType:
    """Numba takes modules, and what is in them, for constants."""
    module = ModuleType(name)
    module.__dict__.update(members)
    return module


def compiled_here(name: str, *others: str) -> ModuleType:
    """A copy of the module of that name in `augment.kernels`, whose kernels run here; others: those that it imports of there.

    Blocks come as arrays of one view, since a block knows no number but 0.
    """

    def decorated(function: Any) -> Any:
        return numba.njit(error_model="numpy")(function)

    def launch(function: Any, blocks: int, threads: int, *arguments: Any) -> None:
        assert blocks == 1
        function(*arguments)

    layer = _module(
        LAYER,
        cuda=_module(
            "cuda",
            blockIdx=_module("blockIdx", x=0),
            threadIdx=_module("threadIdx", x=0),
            blockDim=_module("blockDim", x=1),
            atomic=_module("atomic", add=_add, min=_least, max=_greatest),
            shared=_module("shared", array=_array),
            syncthreads=_nothing,
        ),
        device_function=decorated,
        kernel=lambda **_: decorated,
        launch=launch,
        array=lambda memory: memory,
    )
    modules = (*others, name)
    with patch.dict(sys.modules, {LAYER: layer}), patch.dict(vars(kernels)):
        for module in modules:
            sys.modules.pop(f"{kernels.__name__}.{module}", None)
            vars(kernels).pop(module, None)
        for module in modules:
            copy = importlib.import_module(f"{kernels.__name__}.{module}")
        return copy
