"""The resampling kernel against the CPU's: ragged images of both layouts, every plan and filter, and windows of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("numba_cuda")

from deit_fast.kernels import crop, resample
from deit_fast.kernels.cuda import resample as kernels
from deit_fast.kernels.cuda import tables
from deit_fast.kernels.cuda.driver import launch
from tests.data.planned import planned, random_cropping
from tests.kernels.cuda.compiled_here import compiled_here
from tests.kernels.cuda.devices import argument, given, on_devices
from tests.kernels.cuda.ptx import CAPABILITIES, compile_kernel, needs_compiler

SEED = np.uint64(5)
# larger and smaller than the views, down to a pixel
SIZES = {
    "cpu": [(31, 40), (9, 70), (12, 5), (1, 1), (26, 19)],
    "cuda": [(375, 500), (500, 375), (1, 900), (224, 224), (97, 3), (1200, 1600), (3000, 4000)],
}
RESOLUTIONS = {"cpu": 13, "cuda": 224}


def random_images(sizes: Sequence[tuple[int, int]]) -> list[np.ndarray]:
    # noise at the extremes: overshoot of the cubic filter is clipped
    generator = np.random.default_rng(0)
    return [generator.choice(np.array([0, 3, 128, 250, 255], np.uint8), (*size, 3)) for size in sizes]


def plans_of(name: str, sizes: Sequence[tuple[int, int]], image_of: np.ndarray, resolution: int) -> np.ndarray:
    """(B, PLAN_LENGTH): views of images, drawn for view ids 0, 1, …, of which each is a sample of its own."""
    ids = np.arange(len(image_of), dtype=np.uint64)
    heights, widths = (np.array([sizes[image][axis] for image in image_of]) for axis in (0, 1))
    cropping = {
        "centre": crop.cropping(crop.CENTRE, flip=0.5, resized=int(resolution / 0.875)),
        "simple": crop.cropping(crop.SIMPLE, flip=0.5, padding=4),
    }.get(name, random_cropping((0.08, 1.0)))
    return planned(ids, heights, widths, cropping, resolution)


def of_cpu(images: Sequence[np.ndarray], plans: np.ndarray, image_of: np.ndarray, kind: int, resolution: int) -> np.ndarray:
    views = np.empty((len(plans), resolution, resolution, 3), np.uint8)
    for plan, number, view in zip(plans, image_of, views, strict=True):
        image = images[number]
        sizes = resample.scratch_sizes(image.shape[0], image.shape[1], resolution)
        rows, integers = (np.empty(size, dtype) for size, dtype in zip(sizes, ("u1", "i4"), strict=True))
        axes = crop.axes(tuple(int(value) for value in plan[:8]), 0, 0, 1)
        resample.resample(image, *axes, kind, bool(plan[8]), rows, integers, view)
    return views


def of_device(
    images: Sequence[np.ndarray],
    plans: np.ndarray,
    image_of: np.ndarray,
    kind: int,
    resolution: int,
    device: str,
    module: Any = kernels,
) -> np.ndarray:
    """Views of images that lie one behind the other, the second, fourth … in planes."""
    rows = tables.image_rows(0, np.array([image.shape[:2] for image in images]), is_planar=False)
    rows[1::2, tables.IS_PLANAR] = 1
    bytes_of = [
        image.transpose(2, 0, 1).ravel() if row[tables.IS_PLANAR] else image.ravel()
        for image, row in zip(images, rows, strict=True)
    ]
    rows[:, tables.OFFSET] = np.cumsum([0, *(values.size for values in bytes_of[:-1])])
    return resampled(np.concatenate(bytes_of), rows, tables.crop_rows(plans, image_of), kind, resolution, device, module)


def resampled(
    pixels: np.ndarray, images: np.ndarray, crops: np.ndarray, kind: int, resolution: int, device: str, module: Any = kernels
) -> np.ndarray:
    views = torch.full((len(crops), resolution, resolution, 3), 77, dtype=torch.uint8, device=device)
    tables_of = argument(images, device), argument(crops, device)
    module.resample(argument(pixels, device), *tables_of, kind, resolution, len(crops), given(views.view(-1)))
    return views.cpu().numpy()


@pytest.fixture(autouse=True)
def _small_blocks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each thread of the simulator is one of the system's."""
    if request.node.get_closest_marker("simulator"):
        monkeypatch.setattr(kernels, "THREADS", 32)


def compare(plan: str, kind: str, device: str, sizes: Sequence[tuple[int, int]], copies: int = 3) -> None:
    resolution, images = RESOLUTIONS[device], random_images(sizes)
    image_of = np.arange(len(images)).repeat(copies)
    image_of = image_of[: len(image_of) - (copies > 1)]  # the last group of copies is cut off
    plans = plans_of(plan, sizes, image_of, resolution)
    arguments = (images, plans, image_of, resample.FILTERS[kind], resolution)
    np.testing.assert_array_equal(of_device(*arguments, device), of_cpu(*arguments))


@on_devices
@pytest.mark.parametrize("plan", ["random", *(pytest.param(name, marks=pytest.mark.slow) for name in ("simple", "centre"))])
def test_views_equal_the_cpus_bit_for_bit(plan: str, device: str) -> None:
    compare(plan, "bicubic", device, SIZES[device])


@on_devices
@pytest.mark.parametrize("kind", ["bilinear", "box"])
def test_filters_without_sines_equal_the_cpus(kind: str, device: str) -> None:
    compare("random", kind, device, SIZES[device][:3], copies=1)


@on_devices
@pytest.mark.parametrize("kind", ["hamming", "lanczos"])
def test_filters_with_sines_are_within_a_level(kind: str, device: str) -> None:
    """A device's sine may differ in the last bit, and tip a weight."""
    sizes = SIZES[device][:2]
    images, image_of, resolution = random_images(sizes), np.arange(2), RESOLUTIONS[device]
    plans = plans_of("random", sizes, image_of, resolution)
    arguments = (images, plans, image_of, resample.FILTERS[kind], resolution)
    difference = of_device(*arguments, device).astype(int) - of_cpu(*arguments)
    assert np.abs(difference).max() <= (0 if device == "cpu" else 1)
    assert (difference != 0).mean() < 1e-4


@on_devices
def test_a_batch_of_one(device: str) -> None:
    compare("random", "bicubic", device, SIZES[device][:1], copies=1)


@on_devices
@pytest.mark.slow
@pytest.mark.parametrize("limits", [(800, 1024), (16384, 80)])
def test_tiles_are_made_in_squares_where_shared_memory_is_short(limits: tuple[int, int], device: str) -> None:
    """Too little of it for what lies between the passes, or for coefficients, of a tile of 8 x 8 outputs."""
    sizes, kind, resolution = [(90, 40), (31, 40)], resample.BICUBIC, 11
    images, image_of = random_images(sizes), np.array([0, 1])
    plans = np.array([(0, 0, 90, 40, 11, 11, 0, 0, 0), (1, 2, 30, 38, 11, 11, 0, 0, 1)])
    rows = tables.image_rows([0, images[0].size], np.array(sizes), is_planar=False)
    views = torch.full((2, resolution, resolution, 3), 77, dtype=torch.uint8, device=device)
    pixels = np.concatenate([image.ravel() for image in images])
    arguments = (argument(values, device) for values in (pixels, rows, tables.crop_rows(plans, image_of)))
    small = kernels.resample_kernel(kind, 3, *limits)
    launch(small, 2 * 4, 32, *arguments, np.int32(resolution), given(views.view(-1)))
    np.testing.assert_array_equal(views.cpu().numpy(), of_cpu(images, plans, image_of, kind, resolution))


@on_devices
def test_windows_of_images_are_enough(device: str) -> None:
    """Of each image only what its view reaches is in memory."""
    resolution, sizes, kind = 8, [(40, 60), (33, 21)], resample.BICUBIC
    images, image_of = random_images(sizes), np.arange(2)
    plans = plans_of("random", sizes, image_of, resolution)
    rows = tables.image_rows(0, np.array(sizes), is_planar=False)
    windows = []
    for row, plan, image in zip(rows, plans, images, strict=True):
        vertical, horizontal = crop.axes(tuple(int(value) for value in plan[:8]), 0, 0, 1)
        top, bottom = resample.reach(kind, vertical, resolution)
        left, right = resample.reach(kind, horizontal, resolution)
        windows.append(image[top:bottom, left:right].ravel())
        row[tables.FIRST_ROW], row[tables.FIRST_COLUMN] = top, left
        row[tables.ROWS], row[tables.COLUMNS] = bottom - top, right - left
    rows[1, tables.OFFSET] = windows[0].size
    assert sum(window.size for window in windows) < sum(image.size for image in images)
    views = resampled(np.concatenate(windows), rows, tables.crop_rows(plans, image_of), kind, resolution, device)
    np.testing.assert_array_equal(views, of_cpu(images, plans, image_of, kind, resolution))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bicubic", "lanczos"])
def test_compiled_here_views_equal_the_cpus(kind: str) -> None:
    """The kernel with the types that it has on a GPU, on whole images."""
    module = compiled_here("resample", "tables")
    sizes, resolution = [*SIZES["cuda"], (31, 40), (1, 1)], 224
    images, image_of = random_images(sizes), np.arange(len(sizes)).repeat(2)
    for plan in ("random", "simple", "centre"):
        plans = plans_of(plan, sizes, image_of, resolution)
        arguments = (images, plans, image_of, resample.FILTERS[kind], resolution)
        np.testing.assert_array_equal(of_device(*arguments, "cpu", module), of_cpu(*arguments))


@pytest.mark.parametrize("kind", list(resample.FILTERS.values()))
def test_outputs_see_no_more_pixels_than_there_is_room_for(kind: int) -> None:
    for length in (3, 50, 100, 313, 12_345):
        axis = (0, 0.0, float(length), length, 97, 0)
        seen = [resample.taps(kind, axis, output)[:2] for output in range(97)]
        assert max(end - low for low, end in seen) <= resample.most_taps(kind, axis)
        for count in (1, 2, 8, 32):
            ends = [(seen[i][0], seen[i + count - 1][1]) for i in range(97 - count + 1)]
            most = max(end - low for low, end in ends)
            assert most <= resample.most_pixels(kind, axis, count)
            if length >= 97:  # smaller images end before filters do
                assert resample.most_pixels(kind, axis, count) <= most + 4


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("kind", list(resample.FILTERS))
def test_the_compiler_keeps_all_in_registers(kind: str, capability: tuple[int, int]) -> None:
    from numba.cuda import types

    tables_of = (types.int64[:, ::1],) * 2
    arguments = (types.uint8[::1], *tables_of, types.int32, types.uint8[::1])
    compiled = compile_kernel(kernels.resample_kernel(resample.FILTERS[kind]), arguments, capability)
    if kind not in ("hamming", "lanczos"):  # a sine has a table for large angles, and fused steps
        assert (compiled.local_bytes, compiled.num_fused) == (0, 0)
    assert compiled.local_bytes <= 40
    assert compiled.spill_bytes in (None, 0)
    assert compiled.registers is None or compiled.registers <= 80
    assert compiled.shared_bytes <= 26 * 1024
