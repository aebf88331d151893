"""Cached code is not used once a file of another function that it contains has changed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deit_fast.kernels.cached import sources_stamp

CALLEE = "from deit_fast.kernels.compiled import compiled\n\n@compiled()\ndef number():\n    return {}\n"
CALLER = (
    "from deit_fast.kernels.compiled import compiled\nfrom deit_fast.kernels.callee import number\n\n"
    "@compiled()\ndef twice():\n    return 2 * number()\n"
)


@pytest.mark.slow
def test_change_of_a_called_file_is_seen(tmp_path: Path) -> None:
    package = tmp_path / "deit_fast"
    for room in ("kernels", "kernels/jpeg"):
        (package / room).mkdir(parents=True, exist_ok=True)
        (package / room / "__init__.py").touch()
    (package / "__init__.py").touch()
    for name in ("cached", "compiled", "inner", "parts"):
        shutil.copy(Path(sys.modules[sources_stamp.__module__].__file__ or "").with_name(f"{name}.py"), package / "kernels")
    (package / "kernels" / "jpeg" / "caller.py").write_text(CALLER)

    def write(value: int) -> None:
        (package / "kernels" / "callee.py").write_text(CALLEE.format(value))

    def run() -> list[str]:
        """What a fresh process computes, and how many functions it found in the cache."""
        program = "from deit_fast.kernels.jpeg.caller import twice as f; print(f(), sum(f.cached.stats.cache_hits.values()))"
        environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
        command = [sys.executable, "-B", "-c", program]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.split()

    write(3)
    assert run() == ["6", "0"]
    write(5)
    assert run() == ["10", "0"]
    write(5)  # touched alone
    (package / "kernels" / "other.py").write_text("number = 1\n")
    (package / "kernels" / "jpeg" / "caller.py").touch()
    assert run() == ["10", "1"]
    (package / "kernels" / "jpeg" / "caller.py").write_text("from deit_fast.kernels import (\n    other,\n)\n" + CALLER)
    assert run() == ["10", "0"]
    (package / "kernels" / "other.py").write_text("")  # imported by an importer
    assert run() == ["10", "0"]
