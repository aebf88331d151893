"""Times of the GPU path's kernels: with a GPU, and in Numba's simulator, where they say nothing but that all of it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deit_fast.benchmarks.gpu.bounds import INSTRUCTIONS_OF_SYMBOL
from deit_fast.benchmarks.gpu.kernels import DECODE, ROWS, VIEWS, kernel_times
from deit_fast.config import RunConfig, UserError
from tests.data.image_folders import convert
from tests.kernels.jpeg.stored import noise

NAMES = ["transfer", *DECODE, *VIEWS, *ROWS]
VIEW_BYTES = 2 * 8 * 8 * 3  # of two views of 8 x 8

_SIMULATED = """
import json, sys, torch
from tests.turns import take_turns
take_turns()
from deit_fast.kernels.cuda import finish, jpeg_bits, jpeg_pixels, jpeg_samples, plan, policy, resample
plan.THREADS = 4
for module in (policy, finish, resample, jpeg_bits, jpeg_samples, jpeg_pixels):
    module.THREADS = 32
jpeg_samples.PARTS = jpeg_pixels.PARTS = 1
from deit_fast.benchmarks.gpu.batch import Source
from deit_fast.benchmarks.gpu.decode import check_pixels
from deit_fast.benchmarks.gpu.host import whole_batch
from deit_fast.benchmarks.gpu.kernels import kernel_times
from deit_fast.config import RunConfig
options = {"data.resolution": 8, "data.dtype": "float32", "augment.repeats": 2, "augment.auto_augment": "rand-m9-n1"}
config = RunConfig().changed({"data.train": sys.argv[1], **options})
device, limits = torch.device("cpu"), {"bytes_per_second": 1e9, "cycles_per_second": 1e9, "num_multiprocessors": 100}
times = kernel_times(config, device, limits, num_views=2, repeats=1)
source = Source(config, 2)
seconds = whole_batch(source, source.ids(2, 1), device)(0)
print(json.dumps({"times": times, "pixels": check_pixels(config, device, count=2), "host_seconds": seconds}))
"""


@pytest.mark.slow
def test_every_kernel_is_called_with_what_it_wants(tmp_path: Path) -> None:
    pytest.importorskip("numba_cuda")
    (tmp_path / "images" / "only").mkdir(parents=True)
    for number, kind in enumerate(("4:2:0", "grey")):
        (tmp_path / "images" / "only" / f"{number}.jpg").write_bytes(noise(number, 9, 20, kind, 85))
    convert(tmp_path / "images", tmp_path / "out.beton")
    command = [sys.executable, "-c", _SIMULATED, str(tmp_path / "out.beton")]
    environment = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    done = subprocess.run(
        command, env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=500, check=False
    )
    assert done.returncode == 0, done.stderr
    both = json.loads(done.stdout.splitlines()[-1])
    found, kernels = both["times"], both["times"]["kernels"]
    assert list(kernels) == NAMES
    assert all(row["seconds"] > 0 for row in kernels.values())
    assert (found["views"], found["photographs"], found["damaged"], found["left"]) == (2, 1, 0, 0)
    assert found["symbols"] >= 2 * found["wanted_blocks"] > 0
    num_bytes = {name: row["needs"]["bytes"] for name, row in kernels.items() if row["needs"]}
    assert num_bytes["policy"] == 2 * VIEW_BYTES
    assert num_bytes["finish"] == 2 * VIEW_BYTES + 4 * VIEW_BYTES
    assert VIEW_BYTES < num_bytes["resample"] <= VIEW_BYTES + 2 * 9 * 20 * 3
    assert num_bytes["zero"] == 128 * found["blocks"]
    assert num_bytes["transform"] == 192 * found["wanted_blocks"]
    assert num_bytes["show"] == 64 * found["wanted_blocks"] + 3 * found["pixels"]
    assert kernels["decode_tiles"]["bounds"]["latency"] == pytest.approx(
        2.5e-9 * INSTRUCTIONS_OF_SYMBOL * found["symbols_of_longest_tile"]
    )
    assert both["host_seconds"] > 0
    for compared in both["pixels"].values():
        assert compared == {"equal": 2, "different": 0, "left": 0, "greatest": 0}


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_is_missing() -> None:
    pytest.importorskip("numba_cuda")
    with pytest.raises(UserError, match="the GPU path needs"):
        kernel_times(RunConfig(), torch.device("cpu"), {})
