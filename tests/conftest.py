"""Settings that hold for all tests: no deadlines, since the first call of a function compiles it; gpu tests want a GPU."""

from __future__ import annotations

import os
import signal

import hypothesis
import pytest

from tests.scale import scaled

# as the command line does it: threads that wait leave their core to others
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# started in the background by a shell, this process and its children would ignore Ctrl-C; by nohup, the end of the terminal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

hypothesis.settings.register_profile("deit_fast", deadline=None, derandomize=True, max_examples=scaled(100, 25))
hypothesis.settings.load_profile("deit_fast")


IS_SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
if IS_SIMULATED:
    from tests.turns import take_turns

    take_turns()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Selects tests by their marks, and orders them.

    Tests marked simulator run in a process that has the simulator, which tests/test_in_the_simulator.py starts. Tests marked
    long come first. Those marked gpu are skipped without a CUDA device; PyTorch is imported only if there are any.
    """
    if not IS_SIMULATED:
        others = [item for item in items if item.get_closest_marker("simulator")]
        config.hook.pytest_deselected(items=others)
        items[:] = [item for item in items if item not in others]
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
