"""Freed memory stays with the process, unless the user has set the allocator."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# page faults of taking, filling and freeing pieces of some size, 240 MB in all, after it was done once
_PROGRAM = """
import resource, sys
import numpy as np
from deit_fast.train.freed_memory import keep_freed_memory

print(keep_freed_memory() if sys.argv[1] == "keep" else None)
def fill():
    pieces = [np.ones(int(sys.argv[2]), np.uint8) for _ in range(240_000_000 // int(sys.argv[2]))]
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _run(what: str, piece: int, environment: dict[str, str]) -> tuple[str, int]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    clean["NUMPY_MADVISE_HUGEPAGE"] = "0"  # of larger pages there are fewer faults
    command = [sys.executable, "-c", _PROGRAM, what, str(piece)]
    done = subprocess.run(command, env=clean | environment, check=True, capture_output=True, text=True)
    kept, faults = done.stdout.split()
    return kept, int(faults)


@pytest.mark.parametrize("piece", [3_000_000, 80_000_000])
def test_memory_that_was_freed_is_not_mapped_again(piece: int) -> None:
    assert _run("leave", piece, {})[1] > 50_000  # 240 MB are 58,594 pages
    kept, faults = _run("keep", piece, {})
    assert kept == "True"
    assert faults < 500


@pytest.mark.parametrize(
    "setting", [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}]
)
def test_the_users_setting_of_the_allocator_stands(setting: dict[str, str]) -> None:
    assert _run("keep", 3_000_000, setting)[0] == "False"
