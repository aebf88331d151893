"""Takes functions of CUDA threads, gives kernels for PyTorch's tensors and streams: the one file that knows numba.cuda.

Kernels round every product and every sum, as CPU code does: contraction to fused multiply-adds, which NVVM does unless told
otherwise, is off. So what is computed from scalar definitions is the same number on both devices.

With NUMBA_ENABLE_CUDASIM=1 all this runs in Numba's simulator, on NumPy arrays and CPU tensors.
"""

from __future__ import annotations

import functools
import importlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from deit_fast.config import UserError
from deit_fast.kernels.cached import stamped

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

__all__ = ["SIMULATED", "array", "check_device", "cuda", "device_function", "kernel", "launch", "without_contraction"]


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
    """A tensor on the device as an argument of kernels: the same memory, not copied, and nobody waits.

    Made once for a buffer that is used again, since it takes longer than a launch. bfloat16 comes as the uint16 of its bits.
    NumPy arrays and CPU tensors are for the simulator.
    """
    if isinstance(memory, np.ndarray):
        return memory
    import torch

    if memory.dtype == torch.bfloat16:
        memory = memory.view(torch.uint16)
    if SIMULATED:
        return memory.detach().numpy()
    return cuda.as_cuda_array(memory.detach(), sync=False)


@functools.lru_cache(maxsize=256)
def _configured(function: Any, blocks: int, threads: int, stream: int, shared_bytes: int) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a small batch makes a small grid
        return function[blocks, threads, cuda.external_stream(stream) if stream else 0, shared_bytes]


def launch(function: Any, blocks: int, threads: int, *arguments: Any, shared_bytes: int = 0) -> None:
    """Queues a kernel on PyTorch's current stream of its current device, where the arrays must lie; none where blocks is 0.

    arguments: of `array`, numbers as NumPy scalars (their types count), and named tuples of these. shared_bytes: of dynamic
    shared memory in each block.
    """
    if blocks == 0:
        return
    if SIMULATED:
        function[blocks, threads, 0, shared_bytes](*arguments)
        return
    import torch

    stream = torch.cuda.current_stream().cuda_stream
    _configured(function, blocks, threads, stream, shared_bytes)(*arguments)
