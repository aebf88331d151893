"""Times of the GPU path's kernels: with a GPU, and in Numba's simulator, where they say nothing but that all of it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deit_fast.benchmarks.gpu.kernels import kernel_times
from deit_fast.config import AugmentConfig, UserError

NAMES = ["draw", "resample", "policy", "finish", "policy and finish", "all"]

_SIMULATED = """
import json, torch
from deit_fast.kernels.cuda import finish, plan, policy, resample
plan.THREADS = 4
for module in (policy, finish, resample):
    module.THREADS = 32
from deit_fast.config import AugmentConfig
from deit_fast.benchmarks.gpu.kernels import kernel_times
augment = AugmentConfig(repeats=2, auto_augment="rand-m9-n1")
print(json.dumps(kernel_times(augment, torch.device("cpu"), count=2, side=4, image=(7, 6), dtype="float32", repeats=1)))
"""


@pytest.mark.slow
def test_every_kernel_is_called_with_what_it_wants() -> None:
    pytest.importorskip("numba_cuda")
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    command = [sys.executable, "-c", _SIMULATED]
    done = subprocess.run(command, env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert list(found["kernels"]) == NAMES
    views, images = 2 * 4 * 4 * 3, 2 * 4 * 4 * 3 * 4
    assert found["kernels"]["policy"]["bytes"] == 2 * views
    assert found["kernels"]["finish"]["bytes"] == 2 * views + images
    assert views < found["kernels"]["resample"]["bytes"] <= views + 2 * 7 * 6 * 3
    assert found["kernels"]["all"]["bytes"] == sum(found["kernels"][name]["bytes"] for name in NAMES[:4])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_is_missing() -> None:
    pytest.importorskip("numba_cuda")
    with pytest.raises(UserError, match="the GPU path needs"):
        kernel_times(AugmentConfig(), torch.device("cpu"))


@pytest.mark.gpu
def test_times_on_a_gpu() -> None:
    found = kernel_times(AugmentConfig(), torch.device("cuda"), repeats=5)
    assert list(found["kernels"]) == NAMES
    assert all(row["seconds"] > 0 for row in found["kernels"].values())
