"""All tests marked `simulator`, in processes that have Numba's simulator of CUDA switched on before anything is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1]
FOLDERS = (["tests/kernels/cuda"], ["tests/data/load/device", "tests/train/device"])


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kernels_give_what_the_cpu_gives() -> None:
    pytest.importorskip("numba_cuda")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "simulator"]
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    running = [
        subprocess.Popen(
            [*command, *folders], cwd=PROJECT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for folders in FOLDERS  # beside each other
    ]
    said = [process.communicate()[0] for process in running]
    for process, text in zip(running, said, strict=True):
        assert process.returncode == 0, text[-6000:]
