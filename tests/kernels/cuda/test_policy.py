"""Policies on the device against the CPU's: each operation alone, and whole policies."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch

pytest.importorskip("numba_cuda")

from deit_fast.augment.policy import parse
from deit_fast.benchmarks.fidelity.references import REFERENCES
from deit_fast.kernels import operations
from deit_fast.kernels import policy as policies
from deit_fast.kernels.cuda import policy as kernels
from deit_fast.kernels.cuda.driver import array
from deit_fast.kernels.operation_table import CODES, NOTHING
from deit_fast.kernels.resample import BICUBIC, BILINEAR
from tests.kernels.cuda.compiled_here import compiled_here
from tests.kernels.cuda.devices import argument, on_devices, tensor
from tests.kernels.cuda.ptx import CAPABILITIES, compile_kernel, needs_compiler
from tests.kernels.test_operations import picture
from tests.scale import scaled

FILL = (124, 116, 104)
SEED = np.uint64(0xFEDCBA9876543210)
THREADS = {"cpu": 8, "cuda": kernels.THREADS}
SMALL = {"cpu": [(7, 6)], "cuda": [(31, 45)]}
SIZES = {"cpu": [(9, 6), (5, 8)], "cuda": [(224, 224), (224, 160)]}
TINY = [(1, 1), (1, 7), (2, 2)]
POLICIES = [("rand-m9-mstd0.5-inc1", 0.0), ("3a", 0.3), ("v0", 0.0), ("rand-m8-n4-tweights-mstd101-p0.9", 0.4), ("", 0.2)]


def of_cpu(steps: np.ndarray, views: np.ndarray, interpolation: int) -> np.ndarray:
    made, scratch = views.copy(), np.empty((1, operations.scratch_bytes(*views.shape[1:3])), np.uint8)
    drawn, arguments = steps[..., 0].astype(np.int32), np.ascontiguousarray(steps[..., 1])
    operations.apply_all(drawn, arguments, interpolation == BICUBIC, FILL, made, scratch)
    return made


def of_device(steps: np.ndarray, views: np.ndarray, interpolation: int, device: str) -> np.ndarray:
    """The views after the steps, made on the device; asserts that views and scratch beyond the batch stay as they are."""
    shape = views.shape[:3]
    memory = tensor(np.full((len(views) + 1, *views.shape[1:]), 7, np.uint8), device)
    memory[:-1] = tensor(views, device)
    scratch = tensor(np.full((len(views) + 1, *shape[1:]), 0x7F6E5D4C, np.int32), device)
    arrays = (
        argument(np.concatenate([steps, steps]), device),
        array(memory.view(-1)),
        array(scratch.view(-1).view(torch.uint32)),
    )
    kernels.apply_steps(*arrays, shape, interpolation, FILL, threads=THREADS[device])
    assert (memory[-1] == 7).all()
    assert (scratch[-1] == 0x7F6E5D4C).all()
    return memory[:-1].cpu().numpy()


def assert_equal_but_for_rotation(made: np.ndarray, wanted: np.ndarray, rotated: np.ndarray) -> None:
    """rotated (B,): views whose sines a device may round otherwise, in the last of 15 digits."""
    np.testing.assert_array_equal(made[~rotated], wanted[~rotated])
    difference = np.abs(made.astype(int) - wanted)
    assert difference.max(initial=0) <= 1
    assert (difference > 0).mean() < 1e-4


@on_devices
@pytest.mark.parametrize("sizes", [SMALL, pytest.param(SIZES, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", REFERENCES)
def test_an_operation_gives_what_it_gives_on_the_cpu(name: str, sizes: dict[str, list[tuple[int, int]]], device: str) -> None:
    for height, width in sizes[device]:
        for interpolation in (BICUBIC, BILINEAR) if REFERENCES[name].moves_pixels else (BICUBIC,):
            steps = np.array([[(CODES[name], argument)] for argument in REFERENCES[name].arguments])
            views = np.stack([picture(number, height, width) for number in range(len(steps))])
            wanted = of_cpu(steps, views, interpolation)
            made = of_device(steps, views, interpolation, device)
            assert_equal_but_for_rotation(made, wanted, np.full(len(steps), name == "rotate"))


def test_every_operation_has_a_form() -> None:
    assert set(kernels._FORMS) == set(CODES.values())


@on_devices
@pytest.mark.parametrize("name", ["auto_contrast", "equalize", "contrast"])
def test_few_levels(name: str, device: str) -> None:
    rng = np.random.default_rng(1)
    some = [[7], [0, 255], [3, 4], [0, 0, 0, 0, 200]]
    views = np.stack([rng.choice(np.array(levels, np.uint8), (5, 6, 3)) for levels in some])
    steps = np.full((len(views), 1, 2), (CODES[name], 1.5))
    np.testing.assert_array_equal(of_device(steps, views, BICUBIC, device), of_cpu(steps, views, BICUBIC))


@on_devices
@pytest.mark.slow
@pytest.mark.parametrize("size", TINY)
def test_views_smaller_than_neighbourhoods(size: tuple[int, int], device: str) -> None:
    last = {name: reference.arguments[-1] for name, reference in REFERENCES.items()} | {"rotate": 17.3}
    steps = np.array([[(CODES[name], argument)] for name, argument in last.items()])
    views = np.stack([picture(number, *size) for number in range(len(steps))])
    made = of_device(steps, views, BICUBIC, device)
    assert_equal_but_for_rotation(made, of_cpu(steps, views, BICUBIC), steps[:, 0, 0] == CODES["rotate"])


@on_devices
def test_views_large_enough_to_be_equalized(device: str) -> None:
    """One with fewer pixels than levels stays as it is."""
    views = np.stack([picture(number, 24, 25) for number in range(2)])
    steps = np.full((2, 1, 2), (CODES["equalize"], 0.0))
    wanted = of_cpu(steps, views, BICUBIC)
    assert (wanted != views).any((1, 2, 3)).all()
    np.testing.assert_array_equal(of_device(steps, views, BICUBIC, device), wanted)


def drawn_on_cpu(policy: policies.Policy, ids: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(B, S, 2): code and argument of each step."""
    drawn, arguments = np.empty((len(ids), policy.num_steps), np.int32), np.empty((len(ids), policy.num_steps))
    policies.draw_steps(SEED, ids, policy, *size, drawn, arguments)
    return np.stack([drawn, arguments], -1)


@on_devices
@pytest.mark.parametrize("is_batch", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("text", "jitter"), POLICIES)
def test_policies_give_what_they_give_on_the_cpu(text: str, jitter: float, is_batch: bool, device: str) -> None:
    policy = parse(text, jitter, "bicubic")
    size = (SIZES if is_batch else SMALL)[device][0]
    ids = np.arange({"cpu": 8, "cuda": 512}[device] if is_batch else 1, dtype=np.uint64) + np.uint64(3 << 48)
    steps = drawn_on_cpu(policy, ids, size)
    views = np.stack([picture(number, *size) for number in range(len(ids))])
    made, wanted = of_device(steps, views, policy.interpolation, device), of_cpu(steps, views, policy.interpolation)
    rotated = (steps[..., 0] == CODES["rotate"]).any(1)
    np.testing.assert_array_equal(made[~rotated], wanted[~rotated])
    assert (made != wanted).mean() < 1e-4
    if is_batch:
        assert (made != views).any((1, 2, 3)).mean() > 0.4


def assert_compiled_equals_cpu(module: ModuleType, steps: np.ndarray, views: np.ndarray, interpolation: int) -> None:
    made, scratch = views.copy(), np.empty(views[0, ..., 0].size, np.uint32)
    for i in range(len(views)):
        module.apply_steps(steps[i : i + 1], made[i].reshape(-1), scratch, (1, *views.shape[1:3]), interpolation, FILL)
    np.testing.assert_array_equal(made, of_cpu(steps, views, interpolation))


@pytest.mark.slow
def test_compiled_here_all_is_as_on_the_cpu() -> None:
    """Kernels with the types that they have on a GPU, on whole views."""
    module = compiled_here("policy", "quads", "warp")
    for height, width in ((224, 224), (60, 84), *TINY):
        for interpolation in (BICUBIC, BILINEAR):
            every = [(CODES[name], argument) for name, reference in REFERENCES.items() for argument in reference.arguments]
            steps = np.array([[step] for step in [(NOTHING, 0.0), *every]])
            views = np.stack([picture(number, height, width) for number in range(len(steps))])
            assert_compiled_equals_cpu(module, steps, views, interpolation)
    ids = np.arange(scaled(40, 10), dtype=np.uint64)
    views = np.stack([picture(number, 224, 224) for number in range(len(ids))])
    for text, jitter in POLICIES:
        policy = parse(text, jitter, "bicubic")
        assert_compiled_equals_cpu(module, drawn_on_cpu(policy, ids, (224, 224)), views, BICUBIC)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_policies_stay_in_registers(capability: tuple[int, int]) -> None:
    from numba.cuda import types

    numbers = (types.int32, types.int32, types.int32, types.uint32)
    arrays = (types.float64[:, :, ::1], types.uint8[::1], types.uint32[::1])
    compiled = compile_kernel(kernels._apply_steps, (*arrays, *numbers), capability)
    assert compiled.local_bytes <= 40  # where libdevice turns great angles
    assert "fma.rn.f32" not in compiled.ptx  # those in float64 are within sines
    if compiled.registers is not None:
        assert (compiled.registers <= 64, compiled.spill_bytes) == (True, 0)
