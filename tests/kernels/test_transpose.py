"""Turned lines of bytes against NumPy's transposition."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deit_fast.kernels.transpose import transpose


@given(num_lines=st.integers(0, 70), num_columns=st.integers(0, 70), gap=st.integers(0, 5), seed=st.integers(0, 99))
def test_columns_become_lines_and_nothing_else_is_written(num_lines: int, num_columns: int, gap: int, seed: int) -> None:
    source = np.random.default_rng(seed).integers(0, 256, (num_lines, num_columns + gap), dtype=np.uint8)
    target = np.full((num_columns + 2, num_lines + gap), 77, np.uint8)
    first = target[1:]
    transpose(source.ctypes.data, num_columns + gap, num_lines, num_columns, first.ctypes.data, num_lines + gap)
    wanted = np.full_like(target, 77)
    wanted[1 : num_columns + 1, :num_lines] = source[:, :num_columns].T
    np.testing.assert_array_equal(target, wanted)
