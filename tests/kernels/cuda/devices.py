"""Takes tests that compare kernels with the CPU path, gives them a device: Numba's simulator, or a GPU where there is one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

# a test takes `device`: "cpu" in the simulator, where tensors of the CPU stand for the device's
on_devices = pytest.mark.parametrize(
    "device", [pytest.param("cpu", marks=pytest.mark.simulator), pytest.param("cuda", marks=pytest.mark.gpu)]
)


def tensor(values: np.ndarray, device: str) -> torch.Tensor:
    """A copy on the device."""
    return torch.from_numpy(np.array(values)).to(device)


def given(memory: torch.Tensor) -> Any:
    """A tensor as kernels take it; one of the CPU as an array, for the simulator and for what is compiled here."""
    from deit_fast.kernels.cuda.driver import array

    return memory.numpy() if memory.device.type == "cpu" else array(memory)


def argument(values: np.ndarray, device: str) -> Any:
    """A copy on the device, as kernels take it."""
    return given(tensor(values, device))
