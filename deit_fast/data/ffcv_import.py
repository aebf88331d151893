"""Stock FFCV, imported in a fraction of a second instead of three, and without starting threads."""

from __future__ import annotations

import importlib
import sys

import numba.typed

from deit_fast.data.load.threading_layer import prefer_openmp


def import_ffcv() -> None:
    """Imports FFCV with a plain dictionary for its two image modes, and leaves Numba's threads alone.

    `ffcv.fields.rgb_image` keeps the modes in a Numba dictionary, for which Numba compiles for seconds in every process, and
    which only interpreted code looks into. `ffcv.pipeline.compiler` sets Numba's number of threads, which starts them: a
    process that is forked later could not run anything in parallel. Must come before anything else imports FFCV; does nothing
    after that.
    """
    if "ffcv" in sys.modules:
        return
    prefer_openmp()
    typed_dict, set_num_threads = numba.typed.Dict, numba.set_num_threads
    numba.typed.Dict, numba.set_num_threads = dict, lambda number: None
    try:
        compiler = importlib.import_module("ffcv.pipeline.compiler")
        importlib.import_module("ffcv.fields.rgb_image")
        compiler.set_num_threads = set_num_threads  # type: ignore[attr-defined]
    finally:
        numba.typed.Dict, numba.set_num_threads = typed_dict, set_num_threads
