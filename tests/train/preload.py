"""Imports all that a run needs and starts no thread pool: what the server of forks in sessions.py loads first."""

import numba

_set_num_threads = numba.set_num_threads
numba.set_num_threads = lambda number: None  # FFCV calls it when imported; it starts threads that no fork would have
import ffcv.pipeline.compiler  # noqa: E402

numba.set_num_threads = ffcv.pipeline.compiler.set_num_threads = _set_num_threads
import deit_fast.train.loop  # noqa: E402, F401
