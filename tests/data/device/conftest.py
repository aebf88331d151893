"""Tests marked `simulator` run in a process of their own, as those of `tests/augment/kernels` do."""

from __future__ import annotations

import os

import pytest

IS_SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "simulator: runs kernels in Numba's simulator of CUDA")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    here = [item for item in items if item.path.parent.name == "device"]
    others = [item for item in here if (item.get_closest_marker("simulator") is not None) != IS_SIMULATED]
    if others:
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]
