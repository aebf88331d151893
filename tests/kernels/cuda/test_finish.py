"""The finishing kernel against the CPU's pass: every mix, erasing, precision, and sizes that end inside words and strips."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("numba_cuda")

from deit_fast.kernels import erase, finish, mix
from deit_fast.kernels.cuda import finish as kernels
from deit_fast.kernels.cuda import tables
from deit_fast.kernels.round import PRECISIONS
from tests.kernels.cuda.compiled_here import compiled_here
from tests.kernels.cuda.devices import argument, on_devices, tensor
from tests.kernels.cuda.ptx import CAPABILITIES, compile_kernel, needs_compiler

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
SEED = np.uint64(0xFEDCBA9876543210)
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
MIXES = {"plain": (0.0, 0.0), "mixup": (0.8, 0.0), "cutmix": (0.0, 1.0), "both": (0.8, 1.0)}
SIZES = {
    "cpu": [(5, 11, 8), (3, 8, 7), (1, 3, 5)],
    "cuda": [(256, 224, 224), (33, 154, 154), (7, 384, 384), (1, 32, 32), (5, 9, 1500)],
}


def compared(
    shape: tuple[int, int, int],
    mix_name: str,
    mode: str,
    erase_name: str,
    precision: str,
    device: str,
    kernels: Any = kernels,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(images of the kernel, of the CPU: their bits; boxes that are erased)."""
    count, height, width = shape
    views = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    ids = np.arange(count, dtype=np.uint64) + np.uint64(1 << 50)
    mixup, cutmix = MIXES[mix_name]
    how = mix.mixing(mode, mixup=mixup, cutmix=cutmix, probability=1.0, cutmix_probability=0.5, repeats=1)
    mixed = mix.mix_of(SEED, ids, how, height, width)
    boxes = np.empty((count, 4), np.int64)
    erase.draw_boxes(SEED, ids, 0.8, height, width, boxes)

    of_cpu = np.empty((*shape, 3), np.float32 if precision == "float32" else np.uint16)
    names = erase.MODES[erase_name], PRECISIONS[precision]
    finish.finish_views(views, ids, SEED, mixed, boxes, names[0], MEAN, STD, names[1], 2, of_cpu)

    images = torch.full((*shape, 3), 77.0, dtype=DTYPES[precision], device=device)
    table = argument(tables.finish_rows(SEED, ids, mixed, boxes), device)
    levels = argument(kernels.levels_of(MEAN, STD), device)
    written = kernels.images_array(images)
    kernels.finish(kernels.views_array(tensor(views, device)), table, levels, *names, shape, written)
    bits = torch.uint32 if precision == "float32" else torch.uint16
    of_device = images.view(bits).cpu().numpy()
    return of_device, of_cpu.view(of_device.dtype), boxes


@on_devices
@pytest.mark.parametrize(
    "precision", ["bfloat16", *(pytest.param(name, marks=pytest.mark.slow) for name in ("float32", "float16"))]
)
def test_images_equal_the_cpus_bit_for_bit(precision: str, device: str) -> None:
    cases = itertools.product(["plain", "mixup", "cutmix"], erase.MODES)
    for (mix_name, erase_name), shape in zip(cases, itertools.cycle(SIZES[device])):
        of_device, of_cpu, _ = compared(shape, mix_name, "elem", erase_name, precision, device)
        np.testing.assert_array_equal(of_device, of_cpu, err_msg=f"{mix_name} {erase_name} {shape}")


@on_devices
@pytest.mark.parametrize("mode", list(mix.MODES))
@pytest.mark.parametrize("mix_name", ["mixup", "cutmix", "both"])
def test_batches_are_mixed_as_on_the_cpu(mix_name: str, mode: str, device: str) -> None:
    of_device, of_cpu, boxes = compared(SIZES[device][0], mix_name, mode, "pixel", "float32", device)
    assert len({box.tobytes() for box in boxes}) > 2
    np.testing.assert_array_equal(of_device, of_cpu)


@pytest.mark.slow
def test_compiled_here_images_equal_the_cpus() -> None:
    """Kernels with the types that they have on a GPU, on whole batches."""
    module = compiled_here("finish", "tables")
    for precision, shape in itertools.product(PRECISIONS, [(9, 224, 224), (5, 154, 154), (2, 9, 1500)]):
        for erase_name, mix_name in zip(erase.MODES, ["both", "plain", "cutmix"], strict=True):
            of_device, of_cpu, _ = compared(shape, mix_name, "elem", erase_name, precision, "cpu", module)
            np.testing.assert_array_equal(of_device, of_cpu)


def test_a_block_has_no_more_threads_than_work() -> None:
    assert [kernels.threads_for(width) for width in (224, 192, 384, 32, 5, 341, 342)] == [192, 160, 160, 32, 32, 256, 160]
    for width in range(1, 3000):
        threads, quads = kernels.threads_for(width), -(-3 * width // 4)
        assert threads % 32 == 0
        assert 0 < threads <= kernels.THREADS
        assert -(-quads // threads) == -(-quads // kernels.THREADS)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("name", ["finish_words", "finish_bytes"])
def test_the_compiler_keeps_all_in_registers(name: str, capability: tuple[int, int]) -> None:
    from numba.cuda import types

    views, images = (types.uint32, types.uint64) if name == "finish_words" else (types.uint8, types.uint16)
    numbers = (types.int32,) * 4
    arguments = (views[::1], types.int64[:, ::1], types.float32[::1], *numbers, images[::1])
    compiled = compile_kernel(getattr(kernels, name), arguments, capability)
    assert (compiled.local_bytes, compiled.num_fused) == (0, 0)
    assert compiled.num_float64 == 1  # 1 - lam
    assert compiled.spill_bytes in (None, 0)
    assert compiled.registers is None or compiled.registers <= 80
