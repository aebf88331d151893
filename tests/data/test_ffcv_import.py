"""FFCV is imported without compiling anything, and Numba is left as it was."""

import subprocess
import sys

import pytest

PROGRAM = """
import numba.core.dispatcher as dispatcher
compiled = []
compile_one = dispatcher.Dispatcher.compile
def spy(self, signature):
    compiled.append(self.py_func.__module__)
    return compile_one(self, signature)
dispatcher.Dispatcher.compile = spy
import deit_fast.data
import ffcv.fields.rgb_image, numba.typed
assert numba.typed.Dict.__module__.startswith("numba"), numba.typed.Dict
assert ffcv.fields.rgb_image.IMAGE_MODES == {"jpg": 0, "raw": 1}
print(compiled)
"""


@pytest.mark.slow
def test_import_compiles_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
