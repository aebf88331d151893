"""Every piece of work is taken by one worker, once."""

import numpy as np
from numba import njit, prange

from deit_fast.kernels.share_out import take


@njit(parallel=True)
def share(num_workers, num_pieces, times_taken):  # type: ignore[no-untyped-def]
    counter = np.zeros(1, np.int64)
    for _ in prange(num_workers):
        piece = take(counter.ctypes.data)
        while piece < num_pieces:
            times_taken[piece] += 1
            piece = take(counter.ctypes.data)
    return counter[0]


def test_every_piece_is_taken_once() -> None:
    times_taken = np.zeros(100_000, np.int64)
    assert share(4, len(times_taken), times_taken) == len(times_taken) + 4  # each worker finds the end once
    assert (times_taken == 1).all()
