"""A mapped file holds its bytes as long as an array of them is there, and is not open."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest

from deit_fast.data.format.mapped import map_file


def _is_mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


def _is_open(path: Path) -> bool:
    return any(str(path) == str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink())


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="no /proc")
def test_what_is_mapped_and_for_how_long(tmp_path: Path) -> None:
    path = tmp_path / "numbers"
    content = np.random.default_rng(0).integers(0, 256, 100_000, dtype=np.uint8)
    content.tofile(path)
    memory = map_file(path)
    assert _is_mapped(path)
    assert not _is_open(path)
    assert not memory.flags.writeable
    np.testing.assert_array_equal(memory, content)
    part = memory[8:1608].view("<u8")
    del memory
    gc.collect()
    np.testing.assert_array_equal(part, content[8:1608].view("<u8"))
    del part
    gc.collect()
    assert not _is_mapped(path)


def test_what_cannot_be_mapped(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name in ("none", "empty"):
        with pytest.raises(OSError, match=name):
            map_file(tmp_path / name)
