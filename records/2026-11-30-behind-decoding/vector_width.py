"""Milliseconds of one core for a view, compiled for vectors of 256 bits where LLVM may choose, and for 512, in turns.

    python records/2026-11-30-behind-decoding/vector_width.py BETON FOLDER ROUNDS

FOLDER keeps the compiled code. Prints medians over the rounds, and the ratio of 512 to 256. Needs AVX-512.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import llvmlite.binding as llvm
from in_turns import STAGES

beton, folder, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
here = Path(__file__).parent
commands = (
    [str(here.parent / "2026-11-30-loader" / "stages.py"), beton, *STAGES],
    [str(here / "in_turns.py"), "loaders", beton],
)
host = ",".join(f"{'+' if on else '-'}{name}" for name, on in llvm.get_host_cpu_features().items())
found = defaultdict(list)
for _ in range(rounds):
    for width, preference in (("256", "+prefer-256-bit"), ("512", "-prefer-256-bit")):
        own = {
            "NUMBA_CPU_NAME": llvm.get_host_cpu_name(),
            "NUMBA_CPU_FEATURES": f"{host},{preference}",
            "NUMBA_CACHE_DIR": f"{folder}/{width}",
        }
        for command in commands:
            run = subprocess.run([sys.executable, *command], env=os.environ | own, capture_output=True, text=True, check=True)
            for line in run.stdout.splitlines():
                name, milliseconds = line.rsplit(": ", 1)
                found[name, width].append(float(milliseconds))
for name, width in found:
    if width == "256":
        narrow, wide = (statistics.median(found[name, one]) for one in ("256", "512"))
        print(f"{name:26} {narrow:.4f} {wide:.4f} {wide / narrow:.2f}")
