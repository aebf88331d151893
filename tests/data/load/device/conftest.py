"""In the simulator, where a JPEG would take minutes, the CPU's functions decode what the host sends."""

from __future__ import annotations

import functools

import pytest

from deit_fast.data.load import gpu_decode
from tests.conftest import IS_SIMULATED
from tests.kernels.jpeg import decoded_by_cpu


@pytest.fixture(autouse=True)
def simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """JPEGs are decoded by the CPU, and blocks are small: in the simulator each thread of a block is one of Python."""
    if not IS_SIMULATED:
        return
    from deit_fast.kernels.cuda import plan, policy, resample

    monkeypatch.setattr(gpu_decode, "decode_tiles", decoded_by_cpu.decode_tiles)
    monkeypatch.setattr(plan, "THREADS", 32)
    monkeypatch.setattr(resample, "THREADS", 32)
    monkeypatch.setattr(policy, "apply_steps", functools.partial(policy.apply_steps, threads=32))
