"""Bounds the time of a kernel from below, by what it must move and compute and the peak rates of the device."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deit_fast.kernels.jpeg import device_tables as there

# Counted in the machine code for sm_90: docs/gpu.md says how
INSTRUCTIONS_OF_SYMBOL = 116  # of a warp, in which some threads wait for others' rarer ways
INSTRUCTIONS_OF_BLOCK = 3300  # of 8 x 8 samples, of all its threads
INSTRUCTIONS_OF_PIXEL = 66
_CYCLES_OF_INSTRUCTION = 2.5  # of a warp alone, if half of them need the result of the one before
_INSTRUCTIONS_IN_A_CYCLE = 4 * 32  # of the threads of a multiprocessor
_WARP = 32


@dataclass(frozen=True)
class Needs:
    """What a kernel needs of the device at least, for a batch.

    bytes: read and written; of which the host sends them if from_host. instructions: of all threads, those that wait for others
    of their warp among them; 0: not counted. chain: of the thread that executes most, one after the other.
    """

    bytes: int
    instructions: int = 0
    chain: int = 0
    from_host: bool = False

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def tile_needs(
    num_bytes: int, jpegs: NDArray[np.int64], tiles: NDArray[np.int64], symbols: NDArray[np.int64], num_threads: int
) -> Needs:
    """Needs of the kernel that decodes symbols (T,) of tiles; num_threads: of the block that decodes a JPEG.

    Thread i takes the tiles i, i + num_threads, ... of its JPEG; the 32 of a warp wait for the one with most symbols.
    """
    chain = waited = 0
    for row in jpegs:
        first, count = row[there.FIRST_TILE], row[there.TILE_ROWS] * row[there.TILE_COLUMNS]
        of_threads = np.zeros(-(-count // num_threads) * num_threads, np.int64)
        of_threads[:count] = symbols[first : first + count]
        turns = of_threads.reshape(-1, num_threads)
        chain = max(chain, int(turns.sum(0).max(initial=0)))
        waited += _WARP * int(turns.reshape(len(turns), -1, _WARP).max(-1).sum())
    return Needs(num_bytes, INSTRUCTIONS_OF_SYMBOL * waited, INSTRUCTIONS_OF_SYMBOL * chain)


def bounds_of(needs: Needs, limits: dict[str, Any]) -> dict[str, float]:
    """Seconds that a kernel takes at least, by `bytes`, `instructions` and `latency`, as far as limits, the device's
    `ceilings`, are known. The largest counts."""
    bounds = {}
    rate = limits.get("host_bytes_per_second" if needs.from_host else "bytes_per_second")
    if rate:
        bounds["bytes"] = needs.bytes / rate
    clock, count = limits.get("cycles_per_second"), limits.get("num_multiprocessors")
    if clock and count and needs.instructions:
        bounds["instructions"] = needs.instructions / (_INSTRUCTIONS_IN_A_CYCLE * count * clock)
    if clock and needs.chain:
        bounds["latency"] = needs.chain * _CYCLES_OF_INSTRUCTION / clock
    return bounds
