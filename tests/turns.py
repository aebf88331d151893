"""Runs the threads of a block in turns in Numba's simulator of CUDA, each until it waits for the others or ends.

Numba's own simulator starts a thread of the system for each CUDA thread, and polls all of them, which takes most of the time.
In turns there is no polling, and the order is fixed: upward until the threads first wait for each other, then downward, then
upward again; every second block begins downward. So a missing synchronisation shows: in one of two blocks, the thread that
should wait runs before the one that it needs.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numba.cuda.simulator import kernel
from numba.cuda.simulator.kernelapi import Dim3, FakeCUDAModule, FakeCUDAShared, numpy_support, types


class _Stopped(BaseException):
    """Raised in a CUDA thread that waits, to end it after another has failed."""


class _Worker:
    """A thread of the system that runs CUDA threads, one after the other, and only while the launching thread waits for it."""

    def __init__(self) -> None:
        self._turn, self._back = threading.Lock(), threading.Lock()
        self._turn.acquire()
        self._back.acquire()
        self._work: Callable[[], None] = lambda: None
        self._is_stopped = False
        self.is_done = False
        self.error: Exception | None = None
        threading.Thread(target=self._serve, daemon=True).start()

    def begin(self, work: Callable[[], None]) -> None:
        """Assigns a CUDA thread to this worker; `go_on` starts it."""
        self._work, self._is_stopped, self.is_done, self.error = work, False, False, None

    def go_on(self) -> None:
        """Runs the CUDA thread until it waits or ends; `error` then has the exception that it raised, if any."""
        self._turn.release()
        self._back.acquire()

    def stop(self) -> None:
        """Ends the CUDA thread if it waits."""
        self._is_stopped = True
        if not self.is_done:
            self.go_on()

    def wait(self) -> None:
        """Waits for the next turn; called by the CUDA thread."""
        self._back.release()
        self._turn.acquire()
        if self._is_stopped:
            raise _Stopped

    def _serve(self) -> None:
        while True:
            self._turn.acquire()
            try:
                if not self._is_stopped:
                    self._work()
            except _Stopped:
                pass
            except Exception as error:
                self.error = error
            self.is_done = True
            self._back.release()


_workers: list[_Worker] = []  # as many as the largest block had threads


class _Shared(FakeCUDAShared):
    """Shared memory of a block, identified by the line that allocates it, which is faster than Numba's traceback.

    It holds no zeros at first, as on a GPU.
    """

    def array(self, shape: Any, dtype: Any, alignment: Any = None) -> np.ndarray:
        caller = sys._getframe(1)
        key = caller.f_code.co_filename, caller.f_lineno
        found = self._allocations.get(key)
        if found is None:
            dtype = numpy_support.as_dtype(dtype) if isinstance(dtype, types.Type) else np.dtype(dtype)
            found = np.full(np.prod(shape) * dtype.itemsize, 0x77, np.uint8).view(dtype).reshape(shape)
            self._allocations[key] = found
        return found


class _Cuda(FakeCUDAModule):
    """Stands in for `numba.cuda` in kernels; threadIdx and worker are those of the thread whose turn it is."""

    threadIdx = blockIdx = Dim3(0, 0, 0)
    worker: _Worker

    def __init__(self, grid_dim: Any, block_dim: Any, dynshared_size: int) -> None:
        super().__init__(grid_dim, block_dim, dynshared_size)
        self._shared = _Shared(dynshared_size)
        self.swapped: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self.known: set[int] = set()

    def syncthreads(self) -> None:
        self.worker.wait()


class _Block:
    """Replaces the simulator's BlockManager: runs the threads of a block in turns."""

    def __init__(self, function: Callable[..., None], grid_dim: Any, block_dim: Any, debug: bool) -> None:
        self._function, self._indices = function, [Dim3(*place) for place in np.ndindex(*block_dim)]

    def run(self, grid_point: tuple[int, int, int], *arguments: Any) -> None:
        while len(_workers) < len(self._indices):
            _workers.append(_Worker())
        cuda, live = kernel._get_kernel_context(), list(zip(_workers, self._indices, strict=False))
        cuda.blockIdx = Dim3(*grid_point)
        cuda.shared._allocations.clear()
        if sum(grid_point) % 2:
            live.reverse()
        for worker, _ in live:
            worker.begin(functools.partial(self._function, *arguments))
        while live:
            for worker, index in live:
                cuda.worker, cuda.threadIdx = worker, index
                worker.go_on()
                if worker.error is not None:
                    for other, _ in live:
                        other.stop()
                    raise worker.error
            live = [(worker, index) for worker, index in reversed(live) if not worker.is_done]


@contextlib.contextmanager
def _swapped(function: Callable[..., Any], cuda: _Cuda) -> Iterator[None]:
    """Puts `cuda` in place of `numba.cuda` into the function's module, until the kernel ends."""
    names = function.__globals__
    is_first = not cuda.known
    if id(names) not in cuda.known:
        from numba import cuda as real

        cuda.known.add(id(names))
        found = {name: value for name, value in names.items() if value is real}
        cuda.swapped.append((names, found))
        names.update(dict.fromkeys(found, cuda))
    try:
        yield
    finally:
        if is_first:
            for names, found in cuda.swapped:
                names.update(found)


def take_turns() -> None:
    """Makes the simulator of this process run threads in turns."""
    vars(kernel).update(BlockManager=_Block, FakeCUDAModule=_Cuda, swapped_cuda_module=_swapped)
