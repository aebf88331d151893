"""The device layer: what it says where something is missing, and what it gives kernels."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from deit_fast.config import UserError


def test_without_numba_cuda_it_says_so() -> None:
    code = (
        "import importlib.util as util; find = util.find_spec\n"
        "util.find_spec = lambda name, *rest: None if name == 'numba_cuda' else find(name, *rest)\n"
        "from deit_fast.config import UserError\n"
        "try: import deit_fast.kernels.cuda.driver\n"
        "except UserError as error: print(error)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines() == [
        "the GPU path needs numba-cuda, which is not installed: pip install 'numba-cuda[cu13]' (cu12 for CUDA 12)"
    ]


def test_without_a_driver_or_a_device_it_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("numba_cuda")
    from deit_fast.kernels.cuda import driver as layer

    monkeypatch.setattr(layer.cuda, "cuda_error", lambda: "\nCUDA driver library\ncannot be found.\n:")
    with pytest.raises(UserError, match=r"^the GPU path needs an NVIDIA driver: CUDA driver library cannot be found\.$"):
        layer.check_device()
    monkeypatch.setattr(layer.cuda, "cuda_error", lambda: None)
    monkeypatch.setattr(layer.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="needs a CUDA device, and the driver shows none"):
        layer.check_device()


@pytest.mark.gpu
def test_launches_follow_pytorchs_streams_and_do_not_wait() -> None:
    import torch

    from deit_fast.kernels.cuda.driver import array, check_device, cuda, kernel, launch

    check_device()

    @kernel(threads=64)
    def add(values, number):  # type: ignore[no-untyped-def]
        i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        values[i] += number

    values = torch.zeros(640, device="cuda", dtype=torch.int32)
    launch(add, 10, 64, array(values), np.int32(1))  # compiles
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        values.mul_(2)
        launch(add, 10, 64, array(values), np.int32(5))
        assert not stream.query()  # queued behind, and nobody waited
    stream.synchronize()
    assert (values == 7).all()
    launch(add, 0, 64, array(values), np.int32(1))
    assert (values == 7).all()
    halves = torch.zeros(3, dtype=torch.bfloat16, device="cuda")
    assert array(halves).dtype == np.uint16
