"""What is drawn on the device against what the CPU draws: crops and flips, steps, boxes and mixes, for whole batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("numba_cuda")

from deit_fast.augment.policy import parse
from deit_fast.kernels import crop, erase, mix, rng
from deit_fast.kernels import policy as policies
from deit_fast.kernels.cuda import plan, tables
from tests.data.planned import planned
from tests.kernels.cuda.compiled_here import compiled_here
from tests.kernels.cuda.devices import argument, given, on_devices, tensor
from tests.kernels.cuda.ptx import CAPABILITIES, compile_kernel, needs_compiler

SEED = np.uint64(0xFEDCBA9876543210)
SIDE = 32
COUNTS = {"cpu": [7, 1], "cuda": [50_000, 255, 7, 1]}
SCALE, RATIO = (0.08, 1.0), (0.75, 4 / 3)
POLICIES = [
    ("rand-m9-mstd0.5-inc1", 0.0), ("3a", 0.3), ("", 0.0), ("v0", 0.0), ("rand-m8-n4-tweights-mstd101-p0.9", 0.4), ("", 0.2),
    ("rand-t3aw-m7-mstd1", 0.0), ("original-mstd0.5", 0.0),
]  # fmt: skip
CROPS = {
    "random": crop.cropping(crop.RANDOM, flip=0.5, scale=SCALE, ratio=RATIO),
    "simple": crop.cropping(crop.SIMPLE, flip=0.5, padding=4),
    "centre": crop.cropping(crop.CENTRE, flip=0.5, resized=36),
    "evaluation": crop.cropping(crop.CENTRE, resized=36),
}


@pytest.fixture(autouse=True)
def _small_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread of the simulator is one of the system's."""
    if request.node.get_closest_marker("simulator"):
        monkeypatch.setattr(plan, "THREADS", 4)


def batch_of(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """View ids in groups of three copies, the last cut off; the image of each view; and the images."""
    samples = np.arange(count) // 3
    ids = rng.pack_view_ids(299, samples, np.arange(count) % 3)
    sizes = np.random.default_rng(0).integers(1, 600, (samples[-1] + 1, 2))
    sizes[0] = 40, 590  # no crop of it has its area and one of the ratios
    return ids, samples, tables.image_rows(0, sizes, is_planar=False)


def drawn(
    count: int,
    cropped: crop.Cropping,
    policy: policies.Policy,
    mixed: mix.Mixing,
    erasing: float,
    device: str,
    *,
    crops_before: np.ndarray | None = None,
    module: Any = plan,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(crops, steps, table) as the device draws them, in memory for a larger batch, of which the rest stays as it is."""
    ids, image_of, images = batch_of(count)
    if crops_before is None:
        crops_before = tables.crop_rows(np.full((count, crop.PLAN_LENGTH), -7), image_of)
    crops = tensor(crops_before, device)
    steps = torch.full((count + 1, policy.num_steps, 2), -7.0, dtype=torch.float64, device=device)
    table = torch.full((count + 1, tables.FINISH_LENGTH), -7, dtype=torch.int64, device=device)
    how = (cropped, module.policy_of(policy, argument(policy.table, device)), mixed, erasing)
    arrays = argument(ids.view(np.int64), device), argument(images, device)
    written = given(crops), given(steps), given(table)
    module.draw_views(int(SEED), arrays[0], count, how, SIDE, arrays[1], *written)
    assert bool((steps[count] == -7).all())
    assert bool((table[count] == -7).all())
    return crops.cpu().numpy(), steps[:count].cpu().numpy(), table[:count].cpu().numpy()


def a_policy(text: str = "", jitter: float = 0.0) -> policies.Policy:
    return parse(text, jitter, "bicubic")


def a_mix(mode: str = "batch", **changes: Any) -> mix.Mixing:
    usual: dict[str, Any] = {"mixup": 0.8, "cutmix": 1.0, "probability": 1.0, "cutmix_probability": 0.5, "repeats": 3}
    return mix.mixing(mode, **{**usual, **changes})


@on_devices
@pytest.mark.parametrize("name", list(CROPS))
def test_crops_and_flips_equal_the_cpus(name: str, device: str) -> None:
    for count in COUNTS[device]:
        ids, image_of, images = batch_of(count)
        plans = planned(ids, images[:, tables.HEIGHT], images[:, tables.WIDTH], CROPS[name], SIDE, SEED)
        crops, _, _ = drawn(count, CROPS[name], a_policy(), a_mix(), 0.25, device)
        np.testing.assert_array_equal(crops, tables.crop_rows(plans, image_of))


@on_devices
@pytest.mark.parametrize("changes", [{}, {"mixup": 0.0}, {"cutmix_minmax": (0.2, 0.8)}, {"probability": 0.5}])
@pytest.mark.parametrize("mode", list(mix.MODES))
def test_mixes_and_boxes_equal_the_cpus(mode: str, changes: dict[str, Any], device: str) -> None:
    how = a_mix(mode, **changes)
    for count in COUNTS[device]:
        ids, _, _ = batch_of(count)
        boxes = np.empty((count, 4), np.int64)
        erase.draw_boxes(SEED, ids, 0.5, SIDE, SIDE, boxes)
        wanted = tables.finish_rows(SEED, ids, mix.mix_of(SEED, ids, how, SIDE, SIDE), boxes)
        _, _, table = drawn(count, CROPS["random"], a_policy(), how, 0.5, device)
        lam, wanted_lam = (rows[:, tables.LAM].copy().view(np.float64) for rows in (table, wanted))
        np.testing.assert_allclose(
            lam, wanted_lam, rtol=0 if device == "cpu" else 1e-13
        )  # a device's logarithms have other last bits
        table[:, tables.LAM] = wanted[:, tables.LAM]
        np.testing.assert_array_equal(table, wanted)


@on_devices
@pytest.mark.parametrize(("text", "jitter"), POLICIES)
def test_steps_are_drawn_along_and_given_crops_stay(text: str, jitter: float, device: str) -> None:
    policy = a_policy(text, jitter)
    for count in COUNTS[device]:
        ids, image_of, _ = batch_of(count)
        codes, arguments = np.empty((count, policy.num_steps), np.int32), np.empty((count, policy.num_steps))
        policies.draw_steps(SEED, ids, policy, SIDE, SIDE, codes, arguments)
        crops = tables.crop_rows(np.arange(9 * count).reshape(count, 9), image_of)
        left, steps, _ = drawn(count, crop.cropping(crop.GIVEN), policy, a_mix(), 0.0, device, crops_before=crops)
        np.testing.assert_array_equal(left, crops)
        np.testing.assert_array_equal(steps[..., 0], codes)
        np.testing.assert_allclose(steps[..., 1], arguments, rtol=0 if device == "cpu" else 1e-6)


@pytest.mark.slow
def test_compiled_here_all_is_drawn_as_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel with the types that it has on a GPU."""
    module, count = compiled_here("plan", "tables"), 999
    monkeypatch.setattr(module, "THREADS", 1)
    ids, image_of, images = batch_of(count)
    plans = planned(ids, images[:, tables.HEIGHT], images[:, tables.WIDTH], CROPS["random"], SIDE, SEED)
    boxes = np.empty((count, 4), np.int64)
    erase.draw_boxes(SEED, ids, 0.5, SIDE, SIDE, boxes)
    for mode in mix.MODES:
        how = a_mix(mode)
        crops, _, table = drawn(count, CROPS["random"], a_policy("3a", 0.3), how, 0.5, "cpu", module=module)
        np.testing.assert_array_equal(crops, tables.crop_rows(plans, image_of))
        np.testing.assert_array_equal(table, tables.finish_rows(SEED, ids, mix.mix_of(SEED, ids, how, SIDE, SIDE), boxes))


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_the_compiler_keeps_all_in_registers(capability: tuple[int, int]) -> None:
    from numba.cuda import types
    from numba.cuda.typing.typeof import typeof

    how = (typeof(CROPS["random"]), typeof(a_policy("rand-m9-mstd0.5-inc1", 0.3)), typeof(a_mix()))
    arrays = (types.int64[:, ::1], types.int64[:, ::1], types.float64[:, :, ::1], types.int64[:, ::1])
    arguments = (types.uint64, types.int64[::1], types.int64, *how, types.float64, types.int64, *arrays)
    compiled = compile_kernel(plan._draw_views, arguments, capability)
    assert compiled.local_bytes <= 40  # a cosine has a table for large angles
    assert compiled.spill_bytes in (None, 0)
