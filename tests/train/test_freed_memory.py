"""Freed memory stays with the process, unless the user has set the allocator."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# page faults of taking, filling and freeing 24 MB eight times more, after it was done once
_PROGRAM = """
import resource, sys
import numpy as np
from deit_fast.train.freed_memory import keep_freed_memory

print(keep_freed_memory() if sys.argv[1] == "keep" else None)
def fill():
    pieces = [np.ones(3_000_000 // 8 * 8, np.uint8) for _ in range(8)]
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _run(what: str, **environment: str) -> tuple[str, int]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", _PROGRAM, what]
    done = subprocess.run(command, env=clean | environment, check=True, capture_output=True, text=True)
    kept, faults = done.stdout.split()
    return kept, int(faults)


def test_memory_that_was_freed_is_not_mapped_again() -> None:
    assert _run("leave")[1] > 8 * 5_000  # 24 MB are 5,859 pages
    kept, faults = _run("keep")
    assert kept == "True"
    assert faults < 500


@pytest.mark.parametrize(
    "setting", [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}]
)
def test_the_users_setting_of_the_allocator_stands(setting: dict[str, str]) -> None:
    assert _run("keep", **setting)[0] == "False"
