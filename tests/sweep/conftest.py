"""A fixture for sweeps whose points a stand-in trains."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.sweep.sweeps import make_trainer


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a sweep, whose points the stand-in trains."""
    monkeypatch.setattr(sys, "executable", make_trainer(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / "out"
