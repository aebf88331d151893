"""Memory that begins with a line of the cache."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import DTypeLike

from deit_fast.kernels.stream import LINE


def empty_lines(shape: tuple[int, ...], dtype: DTypeLike) -> np.ndarray:
    """np.empty(shape, dtype), at an address that is a multiple of LINE.

    NumPy's own large arrays begin 16 bytes behind such an address: half of all stores of 32 bytes there straddle two lines, and
    what is streamed from them waits (finishing a view in float32 takes 0.045 ms instead of 0.022 on a core of a Zen 4).
    """
    kind = np.dtype(dtype)
    num_bytes = math.prod(shape) * kind.itemsize
    memory = np.empty(num_bytes + LINE - 1, np.uint8)
    start = -memory.ctypes.data % LINE
    return memory[start : start + num_bytes].view(kind).reshape(shape)
