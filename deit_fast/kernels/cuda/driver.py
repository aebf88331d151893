"""Takes functions of CUDA threads, gives kernels for PyTorch's tensors and streams: the one file that knows numba.cuda.

Kernels round every product and every sum, as CPU code does: contraction to fused multiply-adds, which NVVM does unless told
otherwise, is off. So what is computed from scalar definitions is the same number on both devices.

With NUMBA_ENABLE_CUDASIM=1 all this runs in Numba's simulator, on NumPy arrays and CPU tensors.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from deit_fast.config import UserError
from deit_fast.kernels.cached import stamped
from deit_fast.kernels.cuda.arguments import Packed, format_of, packed_array, packed_tuple, type_of, values_of

if TYPE_CHECKING:
    import torch

_INSTALL = "pip install 'numba-cuda[cu13]' (cu12 for CUDA 12)"

if find_spec("numba_cuda") is None:  # Numba alone has an older numba.cuda
    raise UserError(f"the GPU path needs numba-cuda, which is not installed: {_INSTALL}")
try:
    from numba import cuda
except ImportError as error:
    raise UserError(f"the GPU path needs numba-cuda, which cannot be imported ({error}): {_INSTALL}") from error

SIMULATED = bool(cuda.config.ENABLE_CUDASIM)


def _repair_numba_cuda() -> None:
    """Loads numba-cuda's array functions with an np.row_stack, and takes it away again.

    numba-cuda 0.30 teaches its compiler np.row_stack, an alias of np.vstack that NumPy 2.5 no longer has, and fails there.
    """
    if SIMULATED or hasattr(np, "row_stack"):
        return
    vars(np)["row_stack"] = lambda arrays: np.vstack(arrays)  # a function of its own: np.vstack is taught apart
    try:
        importlib.import_module("numba.cuda.np.arrayobj")
    finally:
        del vars(np)["row_stack"]


_repair_numba_cuda()

__all__ = [
    "SIMULATED", "array", "check_device", "cuda", "device_function", "kernel", "launch", "packed", "without_contraction",
]  # fmt: skip


def check_device() -> None:
    """Raises UserError with one line where kernels cannot run: no driver, no device, or no compiler (NVVM) for them."""
    if SIMULATED:
        return
    trouble = cuda.cuda_error()
    if trouble:
        raise UserError(f"the GPU path needs an NVIDIA driver: {' '.join(str(trouble).split()).rstrip(' :')}")
    if not cuda.is_available():
        raise UserError("the GPU path needs a CUDA device, and the driver shows none: see nvidia-smi and CUDA_VISIBLE_DEVICES")
    from numba.cuda.cudadrv import nvvm

    if not nvvm.is_available():
        raise UserError(f"the GPU path needs NVVM, which compiles its kernels: {_INSTALL}")


@contextmanager
def without_contraction() -> Iterator[None]:
    """Within, what NVVM compiles keeps products and sums apart.

    numba-cuda 0.30 has no option for it, and hands NVVM those that it made itself. So they are added to on their way, under
    its compiler's lock: for what is compiled here, and nothing else.
    """
    from numba.cuda.core.compiler_lock import global_compiler_lock
    from numba.cuda.cudadrv import nvvm

    with global_compiler_lock:
        compile_ir = nvvm.compile_ir
        nvvm.compile_ir = functools.partial(compile_ir, fma=False)
        try:
            yield
        finally:
            nvvm.compile_ir = compile_ir


def kernel(*, threads: int, blocks: int = 1) -> Callable[[Callable[..., None]], Any]:
    """Decorator: a kernel for `launch`, compiled when it first meets arguments of some types, and cached on disk.

    threads: the most that a block will have; blocks: of so many threads that a multiprocessor is to hold at a time. So many
    then find registers.
    """

    def compile_kernel(function: Callable[..., None]) -> Any:
        if SIMULATED:
            return cuda.jit(function)
        # not optimised at link time, which has options of its own
        options = {"lto": False, "launch_bounds": (threads, blocks)}
        try:
            dispatcher = stamped(cuda.jit(cache=True, **options)(function), function)
        except RuntimeError as error:
            if "cannot cache" not in str(error):
                raise
            dispatcher = cuda.jit(**options)(function)
        compile_types = dispatcher.compile

        @functools.wraps(compile_types)
        def compile_apart(types: Any) -> Any:
            with without_contraction():
                return compile_types(types)

        dispatcher.compile = compile_apart
        return dispatcher

    return compile_kernel


def device_function(function: Callable[..., Any]) -> Any:
    """Decorator: a function for kernels alone, which takes their arrays. Scalar definitions need none.

    In the simulator, a function that uses `cuda` itself must stand in the file of the kernel that calls it.
    """
    return cuda.jit(device=True)(function)


def array(memory: torch.Tensor | np.ndarray) -> Any:
    """A contiguous tensor on the device as an argument of kernels: the same memory, not copied, and nobody waits.

    bfloat16 comes as the uint16 of its bits. NumPy arrays and CPU tensors are for the simulator.
    """
    if isinstance(memory, np.ndarray):
        return memory
    import torch

    if not SIMULATED:
        return packed_array(memory)
    return (memory.view(torch.uint16) if memory.dtype == torch.bfloat16 else memory).detach().numpy()


def packed(argument: Any) -> Any:
    """A named tuple of numbers, of `array`s, and of such tuples, as an argument of launches. What is packed is given back."""
    return argument if SIMULATED or isinstance(argument, Packed) else packed_tuple(argument)


class _Prepared:
    """A compiled kernel and memory for its arguments, filled anew by each launch; the driver copies them."""

    def __init__(self, handle: int, arguments: Sequence[Any]) -> None:
        self._handle = ctypes.c_void_p(handle)
        self._pack_into = struct.Struct(format_of(arguments)).pack_into
        self._words = (ctypes.c_uint64 * (struct.calcsize(format_of(arguments)) // 8))()
        start = ctypes.addressof(self._words)
        self._pointers = (ctypes.c_void_p * len(self._words))(*range(start, start + ctypes.sizeof(self._words), 8))
        self._lock = threading.Lock()  # the threads of several loaders launch
        self._launch_kernel = _launch_kernel()

    def launch(self, blocks: int, threads: int, stream: int, arguments: Sequence[Any]) -> None:
        with self._lock:
            self._pack_into(self._words, 0, *values_of(arguments))
            error = self._launch_kernel(self._handle, blocks, 1, 1, threads, 1, 1, 0, stream, self._pointers, None)
        if error:
            raise RuntimeError(f"CUDA's driver did not launch a kernel of {blocks} blocks of {threads} threads: error {error}")


_prepared: dict[tuple[object, ...], _Prepared] = {}


@functools.cache
def _launch_kernel() -> Any:
    """cuLaunchKernel of CUDA's driver, which PyTorch has loaded."""
    function = ctypes.CDLL("libcuda.so.1").cuLaunchKernel
    numbers = [ctypes.c_uint] * 7
    function.argtypes = [ctypes.c_void_p, *numbers, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    return function


def _handle_of(function: Any, argument_types: tuple[Any, ...]) -> int:
    """CUDA's handle of a kernel for arguments of these types, compiled and loaded on the current device."""
    return int(function.compile(argument_types)._codelibrary.get_cufunc().handle)


def launch(function: Any, blocks: int, threads: int, *arguments: Any) -> None:
    """Queues a kernel on PyTorch's current stream of its current device, where the arrays must lie; none where blocks is 0.

    arguments: of `array`, numbers as NumPy scalars (their types count), and named tuples of these that are `packed`.

    Numba's own way to launch converts all arguments each time. Here arrays and tuples come converted, and the driver is called
    at once.
    """
    if blocks == 0:
        return
    if SIMULATED:
        function[blocks, threads](*arguments)
        return
    import torch

    stream = torch.cuda.current_stream()
    key = (function, stream.device_index, *[a.kind if type(a) is Packed else type(a) for a in arguments])
    prepared = _prepared.get(key)
    if prepared is None:
        handle = _handle_of(function, tuple(type_of(a) for a in arguments))
        prepared = _prepared[key] = _Prepared(handle, arguments)
    prepared.launch(blocks, threads, stream.cuda_stream, arguments)
