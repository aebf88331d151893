"""Threads of a block in turns, as the simulator of these tests runs them: none passes a barrier early, and no error is lost."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba_cuda")

from deit_fast.kernels.cuda.driver import cuda, kernel, launch

THREADS = 5
pytestmark = pytest.mark.simulator


@pytest.mark.parametrize("step", [-1, 1])
@pytest.mark.parametrize("waits", [True, False])
def test_a_barrier_that_is_missing_is_seen(step: int, waits: bool) -> None:
    """Whichever neighbour a thread reads from, in one of two blocks it comes first."""

    @kernel(threads=THREADS)
    def neighbours(numbers):  # type: ignore[no-untyped-def]
        i, shared = cuda.threadIdx.x, cuda.shared.array(THREADS, np.int64)
        for number in (1, 2):
            shared[i] = number
            if waits:
                cuda.syncthreads()
            numbers[cuda.blockIdx.x, i] = shared[min(max(i + step, 0), THREADS - 1)]
            cuda.syncthreads()

    numbers = np.zeros((2, THREADS), np.int64)
    launch(neighbours, 2, THREADS, numbers)
    assert (numbers == 2).all() == waits


def test_threads_may_end_before_the_others_wait() -> None:
    @kernel(threads=THREADS)
    def some_wait(numbers):  # type: ignore[no-untyped-def]
        i = cuda.threadIdx.x
        cuda.atomic.add(numbers, 0, 1)
        if i % 2:
            return
        cuda.syncthreads()
        numbers[1 + i] = numbers[0]

    numbers = np.zeros(1 + THREADS, np.int64)
    launch(some_wait, 1, THREADS, numbers)
    assert numbers.tolist() == [THREADS, THREADS, 0, THREADS, 0, THREADS]


def test_an_error_of_one_thread_ends_the_kernel_and_no_more() -> None:
    @kernel(threads=THREADS)
    def one_fails(numbers, bad):  # type: ignore[no-untyped-def]
        cuda.syncthreads()
        if cuda.threadIdx.x == bad:
            raise ValueError("made up")
        cuda.syncthreads()
        numbers[cuda.threadIdx.x] = 1

    numbers = np.zeros(THREADS, np.int64)
    with pytest.raises(ValueError, match="made up"):
        launch(one_fails, 1, THREADS, numbers, 2)
    assert not numbers.any()
    launch(one_fails, 1, THREADS, numbers, -1)
    assert numbers.all()
