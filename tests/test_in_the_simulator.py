"""All tests marked `simulator`, in a process that has Numba's simulator of CUDA switched on before anything is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parents[1]
BATCH = "tests/augment/kernels/test_batch.py"
FOLDERS = ("tests/augment/kernels", "tests/data/device")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("places", [(BATCH,), pytest.param(FOLDERS, marks=pytest.mark.slow)], ids=["a batch", "all others"])
def test_kernels_give_what_the_cpu_gives(places: tuple[str, ...]) -> None:
    pytest.importorskip("numba_cuda")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "simulator"]
    if places == FOLDERS:
        command.append(f"--ignore={BATCH}")
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    how: dict[str, Any] = {"cwd": PROJECT, "env": environment, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    running = [subprocess.Popen([*command, place], text=True, **how) for place in places]  # beside each other
    said = [process.communicate()[0] for process in running]
    for process, text in zip(running, said, strict=True):
        assert process.returncode == 0, text[-6000:]
