"""Tests marked `simulator` run in a process of their own, in Numba's simulator of CUDA, which it then is for all kernels.

`test_in_the_simulator` starts it. There they are the only tests; elsewhere they are left out.
"""

from __future__ import annotations

import os

import pytest

IS_SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "simulator: runs kernels in Numba's simulator of CUDA")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = [item for item in items if "kernels" in item.path.parts]
    others = [item for item in here if (item.get_closest_marker("simulator") is not None) != IS_SIMULATED]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]
