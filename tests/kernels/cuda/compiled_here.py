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
from numba import carray, types
from numba.extending import models, overload_attribute, register_model, typeof_impl

from deit_fast.kernels import cuda as kernels
from deit_fast.kernels.transpose import void_pointer

LAYER = "deit_fast.kernels.cuda.driver"


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


class _BlockIndex:
    """What a kernel asks for the number of its block: `x` is read from memory, where `launch` has put it."""


class _BlockIndexType(types.Dummy):
    pass


_BLOCK_INDEX_TYPE = _BlockIndexType("block index")
_block = np.zeros(1, np.int32)
_BLOCK_AT = _block.ctypes.data
register_model(_BlockIndexType)(models.OpaqueModel)


@typeof_impl.register(_BlockIndex)
def _type_of_block_index(value: _BlockIndex, context: Any) -> types.Type:
    return _BLOCK_INDEX_TYPE


@overload_attribute(_BlockIndexType, "x")
def _x_of_block_index(index):  # type: ignore[no-untyped-def]
    return lambda index: carray(void_pointer(_BLOCK_AT), (1,), np.int32)[0]


def _module(name: str, **members: Any) -> ModuleType:
    """Numba takes modules, and what is in them, for constants."""
    module = ModuleType(name)
    module.__dict__.update(members)
    return module


def compiled_here(name: str, *others: str) -> ModuleType:
    """A copy of a module of `augment.kernels`, by name, whose kernels run here; others: those of there that it imports."""

    def decorated(function: Any) -> Any:
        return numba.njit(error_model="numpy")(function)

    def launch(function: Any, blocks: int, threads: int, *arguments: Any) -> None:
        for block in range(blocks):
            _block[0] = block
            function(*arguments)

    layer = _module(
        LAYER,
        cuda=_module(
            "cuda",
            blockIdx=_BlockIndex(),
            threadIdx=_module("threadIdx", x=0),
            blockDim=_module("blockDim", x=1),
            atomic=_module("atomic", add=_add, min=_least, max=_greatest),
            shared=_module("shared", array=_array),
            syncthreads=_nothing,
        ),
        device_function=decorated,
        kernel=lambda **_: decorated,
        launch=launch,
        packed=lambda argument: argument,
        array=lambda memory: memory if isinstance(memory, np.ndarray) else memory.numpy(),
    )
    modules = (*others, name)
    with patch.dict(sys.modules, {LAYER: layer}), patch.dict(vars(kernels)):
        for module in modules:
            sys.modules.pop(f"{kernels.__name__}.{module}", None)
            vars(kernels).pop(module, None)
        for module in modules:
            copy = importlib.import_module(f"{kernels.__name__}.{module}")
        return copy
