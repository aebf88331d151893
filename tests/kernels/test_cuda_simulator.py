"""Random numbers and scalar definitions give the same in CUDA kernels, run by Numba's simulator, as on the CPU."""

import os
import subprocess
import sys

import numpy as np
import pytest
from numba import cuda

from deit_fast.kernels import erase, mix, pixel, rng
from deit_fast.kernels import round as rounding

SEED = np.uint64(0x1234567890ABCDEF)
IDS = rng.pack_view_ids(299, np.array([0, 7, 1281166, 1 << 39]), np.array([0, 1, 2, 255]))
NUM_VALUES = 33

HOW = mix.mixing("elem", mixup=0.8, cutmix=1.0, probability=1.0, cutmix_probability=0.5, repeats=3)


def values_of(view_id, out):  # type: ignore[no-untyped-def]
    """What is drawn for a view, and pixels made with it; plain Python until a kernel calls it."""
    u = rng.uniforms(SEED, view_id, rng.CROP, 65535)
    for k in range(4):
        out[k] = u[k]
    n = rng.normals(SEED, view_id, rng.POLICY, 1)
    at = rng.normals_at(SEED, view_id, rng.NOISE, 223, 167)
    for k in range(4):
        out[4 + k] = n[k]
        out[8 + k] = at[k]
    out[12] = rng.symmetric_beta(SEED, view_id, rng.MIX, 2, 0.8)
    out[13] = rng.symmetric_beta(SEED, view_id, rng.MIX, 2, 1.0)
    box = erase.erasing_box(SEED, view_id, 1.0, 224, 160)
    for k in range(4):
        out[14 + k] = box[k]
    for mode in range(3):
        out[18 + mode] = erase.noise_value(SEED, view_id, mode, 5, 11, 2)
    drawn = mix.view_mix(SEED, view_id, HOW, 224, 160)
    for k in range(6):
        out[21 + k] = drawn[k]
    level = np.uint8(u[0] * 256)
    out[27] = pixel.luma(level, np.uint8(200), np.uint8(3))
    out[28] = pixel.blended(level, np.uint8(77), np.float32(1.81))
    out[29] = pixel.solarized(level, np.int32(100))
    out[30] = pixel.solarize_added(level, np.int32(90))
    out[31] = rounding.half_bits_by_integers(np.float32(n[0]))
    out[32] = rounding.bfloat16_bits(np.float32(n[0]))


def print_values_of_a_kernel() -> None:
    """Runs in a process with NUMBA_ENABLE_CUDASIM=1."""

    @cuda.jit
    def kernel(ids, out):  # type: ignore[no-untyped-def]
        i = cuda.grid(1)
        if i < len(ids):
            values_of(ids[i], out[i])

    out = np.zeros((len(IDS), NUM_VALUES))
    kernel[1, 32](IDS, out)
    print(out.tobytes().hex())


@pytest.mark.slow
def test_a_kernel_draws_and_makes_what_the_cpu_does() -> None:
    code = "from tests.kernels.test_cuda_simulator import print_values_of_a_kernel as run; run()"
    env = {**os.environ, "NUMBA_ENABLE_CUDASIM": "1"}
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    of_kernel = np.frombuffer(bytes.fromhex(result.stdout.strip())).reshape(len(IDS), NUM_VALUES)
    of_cpu = np.zeros_like(of_kernel)
    for view_id, row in zip(IDS, of_cpu, strict=True):
        values_of(view_id, row)
    np.testing.assert_array_equal(of_kernel, of_cpu)
    assert len(np.unique(of_cpu[:, :4])) == 16  # not all the same
