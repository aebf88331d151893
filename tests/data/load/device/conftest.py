"""In the simulator, where a JPEG would take minutes, the CPU's functions decode what the host sends."""

from __future__ import annotations

import pytest

from deit_fast.data.load import gpu_decode
from tests.conftest import IS_SIMULATED
from tests.kernels.jpeg import decoded_by_cpu


@pytest.fixture(autouse=True)
def _decoded_by_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    if IS_SIMULATED:
        monkeypatch.setattr(gpu_decode, "decode_tiles", decoded_by_cpu.decode_tiles)
