"""Ranks and their devices; and that freed memory stays with the process, unless the user has set the allocator."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import pytest
import torch

from deit_fast.config import RankError
from deit_fast.train.dist import choose_device


def test_a_rank_without_a_gpu_says_so_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("auto", 1) == torch.device("cuda", 1)
    with pytest.raises(RankError, match="rank 2 of this node has no GPU: the node has 2"):
        choose_device("auto", 2)


# Page faults of taking, filling and freeing pieces of some size, 240 MB in all, after it was done once. Each of the words, as
# keep:3000000, has a process of its own, forked before any such memory was taken.
_PROGRAM = """
import os, resource, sys
import numpy as np
from deit_fast.train.dist import keep_freed_memory

def fill(piece):
    pieces = [np.ones(piece, np.uint8) for _ in range(240_000_000 // piece)]
for word in sys.argv[1:]:
    what, piece = word.split(":")
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        continue
    kept = keep_freed_memory() if what == "keep" else None
    fill(int(piece))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    fill(int(piece))
    print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before, flush=True)
    os._exit(0)
"""


def _run(words: Sequence[str], environment: dict[str, str]) -> list[tuple[str, int]]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    clean["NUMPY_MADVISE_HUGEPAGE"] = "0"  # of larger pages there are fewer faults
    command = [sys.executable, "-c", _PROGRAM, *words]
    done = subprocess.run(command, env=clean | environment, check=True, capture_output=True, text=True)
    lines = [line.split() for line in done.stdout.splitlines()]
    return [(kept, int(faults)) for kept, faults in lines]


@pytest.mark.slow
def test_memory_that_was_freed_is_not_mapped_again() -> None:
    sizes = (3_000_000, 80_000_000)
    found = _run([f"{what}:{size}" for what in ("leave", "keep") for size in sizes], {})
    assert [kept for kept, _ in found] == ["None", "None", "True", "True"]
    assert all(faults > 50_000 for _, faults in found[:2])  # 240 MB are 58,594 pages
    assert all(faults < 500 for _, faults in found[2:])


@pytest.mark.parametrize(
    "setting", [{"MALLOC_TRIM_THRESHOLD_": "131072"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=131072"}]
)
@pytest.mark.slow
def test_the_users_setting_of_the_allocator_stands(setting: dict[str, str]) -> None:
    assert _run(["keep:3000000"], setting)[0][0] == "False"
