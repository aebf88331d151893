"""Takes a kernel and the types of its arguments, gives what NVIDIA's compilers make of it for a GPU that is not here."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any
from unittest.mock import patch

import pytest

CAPABILITIES = ((8, 0), (9, 0))  # A100, and H100 or H200


@dataclass(frozen=True)
class Compiled:
    """A kernel as PTX, and as what ptxas says of the machine code; the latter is None without nvJitLink."""

    ptx: str
    local_bytes: int  # memory of each thread's own, in the PTX: arrays that are not in registers
    num_fused: int  # multiply-adds with one rounding; sines, cosines and logarithms have some within
    num_float64: int  # operations on float64
    shared_bytes: int  # of each block
    registers: int | None
    stack_bytes: int | None
    spill_bytes: int | None  # stored and loaded


@functools.cache
def why_not() -> str:
    """Why nothing can be compiled here; empty where it can."""
    if find_spec("numba_cuda") is None:
        return "numba-cuda is not installed"
    from deit_fast.kernels.cuda import driver as cuda

    if cuda.SIMULATED:
        return "in the simulator"
    from numba.cuda.cudadrv import nvvm

    return "" if nvvm.is_available() else "NVVM is not installed (pip install nvidia-nvvm)"


needs_compiler = pytest.mark.skipif(bool(why_not()), reason=why_not())


def compile_kernel(kernel: Any, types: tuple[Any, ...], capability: tuple[int, int]) -> Compiled:
    """The kernel, of `kernels.cuda.driver.kernel`, for arguments of these Numba types and for a compute capability."""
    from numba.cuda import compile_ptx, dispatcher

    from deit_fast.kernels.cuda.driver import without_contraction

    class Device:
        compute_capability = capability

    bounds = kernel.targetoptions["launch_bounds"]
    # the functions that a kernel calls ask the device for its capability
    with patch.object(dispatcher, "get_current_device", lambda: Device), without_contraction():
        ptx, _ = compile_ptx(kernel.py_func, types, cc=capability, launch_bounds=bounds)
    log = _assembled(ptx, capability)
    stack = re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", log)
    registers = re.search(r"Used (\d+) registers", log)
    return Compiled(
        ptx,
        local_bytes=sum(int(size) for size in re.findall(r"\.local .*?\[(\d+)\];", ptx)),
        num_fused=len(re.findall(r"\tfma\.", ptx)),
        num_float64=len(re.findall(r"\t(?:add|sub|mul|div|fma|sqrt|rcp)\.\w*\.?f64", ptx)),
        shared_bytes=sum(int(size) for size in re.findall(r"\.shared .*?\[(\d+)\];", ptx)),
        registers=int(registers[1]) if registers else None,
        stack_bytes=int(stack[1]) if stack else None,
        spill_bytes=int(stack[2]) + int(stack[3]) if stack else None,
    )


def _assembled(ptx: str, capability: tuple[int, int]) -> str:
    """What ptxas says when it makes machine code of the PTX; empty without nvJitLink."""
    try:
        nvjitlink: Any = import_module("cuda.bindings.nvjitlink")
        not_supported = import_module("cuda.bindings._internal.utils").NotSupportedError
    except ImportError:
        return ""
    code, options = ptx.encode(), [f"-arch=sm_{capability[0]}{capability[1]}", "-verbose"]
    try:
        linker = nvjitlink.create(len(options), options)
    except (not_supported, RuntimeError):
        return ""
    try:
        nvjitlink.add_data(linker, nvjitlink.InputType.PTX, code, len(code), "kernel")
        nvjitlink.complete(linker)
        log = bytearray(nvjitlink.get_info_log_size(linker))
        nvjitlink.get_info_log(linker, log)
    finally:
        nvjitlink.destroy(linker)
    return log.decode()
