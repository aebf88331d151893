"""Takes kernels, gives them compiled for this machine's processor, as if each block were one thread.

The simulator runs kernels in Python, on NumPy's numbers. Compiled, numbers have the types that Numba infers, on the GPU as
here, and whole batches take seconds. What threads owe each other is for the simulator.
"""

from __future__ import annotations

import ctypes
import importlib
import mmap
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import numba
import numpy as np
from numba import carray, types
from numba.extending import models, overload_attribute, register_model, typeof_impl

from deit_fast.data import load
from deit_fast.kernels import cuda as kernels
from deit_fast.kernels.cached import cached, sources_stamp
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
_BLOCK_AT = 1 << 38  # the same in each process: compiled code holds it, and is cached
register_model(_BlockIndexType)(models.OpaqueModel)


def _mapped(address: int) -> np.ndarray:
    """A number (1,) int32 at an address where nothing lies yet."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_FIXED_NOREPLACE
    found = libc.mmap(address, mmap.PAGESIZE, mmap.PROT_READ | mmap.PROT_WRITE, flags, -1, 0)
    assert found == address, ctypes.get_errno()
    return np.ctypeslib.as_array((ctypes.c_int32 * 1).from_address(address))


_MAP_FIXED_NOREPLACE = 0x100000
_block = _mapped(_BLOCK_AT)


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


def _layer() -> ModuleType:
    """In the place of `kernels.cuda.driver`."""

    def decorated(function: Any) -> Any:
        function.__qualname__ = f"here.{function.__qualname__}"  # files in the cache are not those for a GPU
        dispatcher = cached(function, error_model="numpy")
        dispatcher._cache._cache_file._source_stamp += sources_stamp(Path(__file__))
        return dispatcher

    def launch(function: Any, blocks: int, threads: int, *arguments: Any) -> None:
        for block in range(blocks):
            _block[0] = block
            function(*arguments)

    return _module(
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


@contextmanager
def _other_modules(layer: ModuleType) -> Iterator[None]:
    """Inside the block, modules of ours may be others; those of others that are imported there stay.

    Numba imports some of its own when it first needs them, and does not stand their being imported twice.
    """
    package = kernels.__name__.partition(".")[0]
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == package}
    try:
        with patch.dict(vars(kernels)), patch.dict(vars(load)):
            sys.modules[LAYER] = layer
            yield
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == package]:
            del sys.modules[name]
        sys.modules.update(before)


def compiled_here(name: str, *others: str) -> ModuleType:
    """A copy of a module of `kernels.cuda`, by name, whose kernels run here; others: those of there that it imports."""
    modules = (*others, name)
    with _other_modules(_layer()):
        for module in modules:
            sys.modules.pop(f"{kernels.__name__}.{module}", None)
            vars(kernels).pop(module, None)
        for module in modules:
            copy = importlib.import_module(f"{kernels.__name__}.{module}")
        return copy


@contextmanager
def data_path_here() -> Iterator[ModuleType]:
    """A copy of `data.load.gpu_views`, all of whose kernels run here, on tensors of the CPU, inside the block."""
    layer = _layer()
    with _other_modules(layer):
        for package, start in ((kernels, ""), (load, "gpu_")):
            for module in [name for name in sys.modules if name.startswith(f"{package.__name__}.{start}") and name != LAYER]:
                sys.modules.pop(module)
                vars(package).pop(module.rpartition(".")[2], None)
        vars(kernels)["driver"] = layer
        plan = importlib.import_module(f"{kernels.__name__}.plan")
        vars(plan)["THREADS"] = 1  # a view is drawn by one thread, found by the number of its block
        yield importlib.import_module(f"{load.__name__}.gpu_views")
