"""Kernels for code that can hold numbers but no arrays, as a stock FFCV loader compiles it: memory comes by its address."""

from __future__ import annotations

import numpy as np
from numba import carray

from deit_fast.kernels import policy, rng
from deit_fast.kernels.compiled import compiled
from deit_fast.kernels.decode import STORED_LENGTH
from deit_fast.kernels.transpose import void_pointer


@compiled()
def locate(ids, table_at, num_samples, stored):  # type: ignore[no-untyped-def]
    """Fills stored (>= B, STORED_LENGTH) int64 with the rows of the images of ids (B,) uint64, from a table of all samples."""
    table = carray(void_pointer(table_at), (num_samples, STORED_LENGTH), np.int64)
    for i in range(len(ids)):
        row = table[rng.sample_of(ids[i])]
        for column in range(STORED_LENGTH):
            stored[i, column] = row[column]


@compiled()
def draw_steps(seed, ids, table_at, num_rows, numbers, side, codes, arguments):  # type: ignore[no-untyped-def]
    """`policy.draw_steps` of a policy with a table of num_rows and these other numbers, for views of one side."""
    drawn = policy.Policy(carray(void_pointer(table_at), (num_rows, 5), np.float64), *numbers)
    policy.draw_steps(seed, ids, drawn, side, side, codes, arguments)


@compiled()
def bytes_at(address, num_rows, num_columns):  # type: ignore[no-untyped-def]
    """Memory (num_rows, num_columns) uint8."""
    return carray(void_pointer(address), (num_rows, num_columns), np.uint8)


@compiled()
def take_labels(ids, column, labels):  # type: ignore[no-untyped-def]
    """Fills labels (>= B, 1) int64 from a column of FFCV's metadata; ids (B,) uint64."""
    for i in range(len(ids)):
        labels[i, 0] = column[rng.sample_of(ids[i])]


@compiled()
def read_mapped(address, state):  # type: ignore[no-untyped-def]
    """The bytes stored at an address of a memory-mapped beton, (n,) uint8, read-only; state: FFCV's OSCacheContext's."""
    memory, addresses, sizes = state
    return memory[address : address + sizes[np.searchsorted(addresses, address)]]
