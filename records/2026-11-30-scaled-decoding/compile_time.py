"""CPU seconds to compile what decodes on the CPU, and then what decodes at half size, in the order in which loaders need them.

NUMBA_CACHE_DIR=EMPTY_FOLDER compile_time.py. Run from the project's root.
"""

import time

from deit_fast.data.load.compile_ahead import compile_faster
from deit_fast.kernels import decode

compile_faster()
for name in ("GROUP", "HALF"):
    started = time.process_time()
    assert getattr(decode, name).address
    print(f"{name} {time.process_time() - started:.1f} s", end="; ")
print()
