"""Maps a file into memory for reading, without keeping it open.

Python's `mmap`, and so `np.memmap`, keeps a descriptor of the file for as long as it is mapped (before Python 3.13 always): a
set of hundreds of betons would take as many of those that a process may have.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p
_LIBC.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64)
_LIBC.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_LIBC.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
_FAILED = ctypes.c_void_p(-1).value


class _Mapping:
    """Unmaps its memory when nothing refers to it any more. Arrays made from it do."""

    def __init__(self, address: int, num_bytes: int) -> None:
        self.__array_interface__: dict[str, Any] = {
            "version": 3,
            "shape": (num_bytes,),
            "typestr": "|u1",
            "data": (address, True),
        }
        unmap = weakref.finalize(self, _LIBC.munmap, address, num_bytes)
        unmap.atexit = False  # a thread may still read; the memory goes with the process


def map_file(path: Path) -> NDArray[np.uint8]:
    """A file's bytes (n,) uint8, mapped for reading; unmapped when the last array that shares them is gone.

    Raises OSError if the file cannot be read or mapped.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        num_bytes = os.fstat(descriptor).st_size
        address = _LIBC.mmap(None, num_bytes, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, 0)
    finally:
        os.close(descriptor)
    if address == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(path))
    return np.asarray(_Mapping(address, num_bytes))


def advise(memory: NDArray[np.uint8], advice: int, start: int, num_bytes: int) -> None:
    """Gives the kernel one of `mmap`'s MADV_ constants about a range of a mapped file; it may ignore that.

    start: a multiple of the machine's page.
    """
    _LIBC.madvise(memory.ctypes.data + start, min(num_bytes, len(memory) - start), advice)
