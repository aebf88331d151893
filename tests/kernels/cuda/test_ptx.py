"""What the compilers make of kernels in general: no contraction, and figures that tell a bad kernel from a good one."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from tests.kernels.cuda.ptx import CAPABILITIES, compile_kernel, needs_compiler

pytestmark = needs_compiler


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_products_and_sums_stay_apart(capability: tuple[int, int]) -> None:
    from numba.cuda import types

    from deit_fast.kernels.cuda.driver import cuda, kernel

    @kernel(threads=64)
    def line(values):  # type: ignore[no-untyped-def]
        i = cuda.threadIdx.x
        values[i] = values[i] * np.float32(3.1) + values[i + 1]

    compiled = compile_kernel(line, (types.float32[::1],), capability)
    assert f".target sm_{capability[0]}{capability[1]}" in compiled.ptx
    assert (compiled.num_fused, compiled.local_bytes, compiled.num_float64) == (0, 0, 0)
    assert "mul.rn.f32" in compiled.ptx  # which ptxas does not fuse either
    assert "add.rn.f32" in compiled.ptx
    assert ".maxntid 64" in compiled.ptx


def test_what_is_bad_would_be_seen() -> None:
    from numba.cuda import compile_ptx, types

    from deit_fast.kernels.cuda.driver import cuda, kernel

    @kernel(threads=64)
    def line(values, places):  # type: ignore[no-untyped-def]
        i = cuda.threadIdx.x
        own = cuda.local.array(32, np.float32)
        for j in range(32):
            own[j] = values[i + j]
        values[i] = np.float64(own[places[i]]) * 3.1

    compiled = compile_kernel(line, (types.float32[::1], types.int32[::1]), (9, 0))
    assert compiled.local_bytes == 128
    assert compiled.num_float64 == 1
    if compiled.registers is not None:
        assert (compiled.stack_bytes, compiled.spill_bytes) == (128, 0)

    def fused(values):  # type: ignore[no-untyped-def]
        values[0] = values[0] * np.float32(3.1) + values[1]

    ptx, _ = compile_ptx(fused, (types.float32[::1],), cc=(9, 0))
    assert "fma.rn.f32" in ptx


@pytest.mark.slow
def test_kernels_compile_with_a_numpy_that_has_no_row_stack() -> None:
    """As NumPy from 2.5 on; of an earlier one the name is taken away, after Numba itself has looked for it."""
    code = (
        "import numpy as np, numba.np.arrayobj\n"
        "vars(np).pop('row_stack', None)\n"
        "np.__all__ = [name for name in np.__all__ if name != 'row_stack']\n"
        "from deit_fast.kernels.cuda.driver import cuda\n"
        "assert not hasattr(np, 'row_stack')\n"
        "def fill(values):\n"
        "    values[cuda.threadIdx.x] = 1\n"
        "from numba.cuda import compile_ptx, types\n"
        "print(compile_ptx(fill, (types.float32[::1],), cc=(9, 0))[0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ".target sm_90" in done.stdout
