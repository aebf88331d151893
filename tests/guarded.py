"""Allocates memory between two pages that may be neither read nor written: an access there ends the process."""

from __future__ import annotations

import ctypes
import math
import mmap
import os
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class GuardedMemory:
    """Memory whose last byte lies directly before a page that may not be read; another such page lies before it."""

    def __init__(self, max_bytes: int) -> None:
        page = mmap.PAGESIZE
        self._size = -(-max_bytes // page) * page
        self._map = mmap.mmap(-1, self._size + 2 * page)
        self._address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))
        library = ctypes.CDLL(None, use_errno=True)
        for start in (self._address, self._address + page + self._size):
            assert library.mprotect(ctypes.c_void_p(start), page, 0) == 0, os.strerror(ctypes.get_errno())
        self._start = self._address + page

    def put(self, content: bytes) -> int:
        """Copies the content into the memory, up to its last byte; gives the address of its first byte."""
        address = self._start + self._size - len(content)
        ctypes.memmove(address, content, len(content))
        return address

    def array(self, shape: int | tuple[int, ...], dtype: DTypeLike, fill: int = 0) -> NDArray[Any]:
        """An array that ends with the memory's last byte; valid as long as this object is."""
        lengths = (shape,) if isinstance(shape, int) else shape
        num_bytes = math.prod(lengths) * np.dtype(dtype).itemsize
        assert num_bytes <= self._size
        page = mmap.PAGESIZE
        memory = np.frombuffer(self._map, np.uint8, count=num_bytes, offset=page + self._size - num_bytes)
        found = memory.view(dtype).reshape(lengths)
        found[:] = fill
        return found
