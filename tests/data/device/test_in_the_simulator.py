"""All tests of this folder that are marked `simulator`, in one process with the simulator on before anything is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[3]


@pytest.mark.parametrize("marks", ["simulator and not slow", pytest.param("simulator and slow", marks=pytest.mark.slow)])
def test_batches_in_the_simulator_are_those_of_the_cpu(marks: str) -> None:
    pytest.importorskip("numba_cuda")
    folder = Path(__file__).parent.relative_to(PROJECT)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", marks, str(folder)]
    env = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    result = subprocess.run(command, cwd=PROJECT, env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
