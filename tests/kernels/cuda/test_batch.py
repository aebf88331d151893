"""A batch on the device, from decoded images to finished ones in four launches, against the CPU path."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("numba_cuda")

from deit_fast.augment.policy import parse
from deit_fast.kernels import crop, erase, finish, mix, operations, resample, rng
from deit_fast.kernels import policy as policies
from deit_fast.kernels.cuda import finish as finish_kernel
from deit_fast.kernels.cuda import plan, tables
from deit_fast.kernels.cuda import policy as policy_kernel
from deit_fast.kernels.cuda import resample as resample_kernel
from deit_fast.kernels.round import FLOAT32
from tests.data.planned import planned, random_cropping
from tests.kernels.cuda.devices import argument, given, on_devices
from tests.kernels.test_operations import picture

SEED = np.uint64(0xFEDCBA9876543210)
MEAN, STD, FILL = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]), (124, 116, 104)
CROPPING = random_cropping((0.08, 1.0))
COUNTS = {"cpu": 5, "cuda": 254}  # which end inside a group of three copies
RESOLUTIONS = {"cpu": (8, 5), "cuda": (224, 154)}


def views_of_cpu(
    images: list[np.ndarray], ids: np.ndarray, image_of: np.ndarray, policy: policies.Policy, side: int
) -> np.ndarray:
    count = len(ids)
    heights, widths = (np.array([image.shape[axis] for image in images]) for axis in (0, 1))
    plans, views = planned(ids, heights, widths, CROPPING, side, SEED), np.empty((count, side, side, 3), np.uint8)
    for row, number, view in zip(plans, image_of, views, strict=True):
        image = images[number]
        lengths = resample.scratch_sizes(image.shape[0], image.shape[1], side)
        scratch = (np.empty(length, dtype) for length, dtype in zip(lengths, ("u1", "i4"), strict=True))
        axes = crop.axes(tuple(int(value) for value in row[:8]), 0, 0, 1)
        resample.resample(image, *axes, resample.BICUBIC, bool(row[8]), *scratch, view)
    codes, arguments = np.empty((count, policy.num_steps), np.int32), np.empty((count, policy.num_steps))
    policies.draw_steps(SEED, ids, policy, side, side, codes, arguments)
    memory = np.empty((1, operations.scratch_bytes(side, side)), np.uint8)
    operations.apply_all(codes, arguments, True, FILL, views, memory)
    return views


def finished_on_cpu(views: np.ndarray, ids: np.ndarray, how: mix.Mixing) -> np.ndarray:
    side = views.shape[1]
    boxes, images = np.empty((len(ids), 4), np.int64), np.empty(views.shape, np.float32)
    erase.draw_boxes(SEED, ids, 0.5, side, side, boxes)
    mixed = mix.mix_of(SEED, ids, how, side, side)
    finish.finish_views(views, ids, SEED, mixed, boxes, erase.PIXEL, MEAN, STD, FLOAT32, 2, images)
    return images


@on_devices
def test_a_batch_equals_the_cpus(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = policy_kernel.THREADS if device == "cuda" else 32
    if device == "cpu":
        monkeypatch.setattr(resample_kernel, "THREADS", threads)
        monkeypatch.setattr(plan, "THREADS", 4)
    count = COUNTS[device]
    image_of = np.arange(count) // 3
    ids = rng.pack_view_ids(7, image_of, np.arange(count) % 3)
    generator = np.random.default_rng(1)
    sides = (9, 24) if device == "cpu" else (100, 600)
    images = [picture(number, *generator.integers(*sides, 2)) for number in range(image_of[-1] + 1)]
    rows = tables.image_rows(0, np.array([image.shape[:2] for image in images]), is_planar=False)
    rows[:, tables.OFFSET] = np.cumsum([0, *(image.size for image in images[:-1])])
    pixels, image_table = argument(np.concatenate([image.ravel() for image in images]), device), argument(rows, device)

    policy = parse("rand-m9-mstd0.5-inc1", 0.3, "bicubic")
    mixed = mix.mixing("batch", mixup=0.8, cutmix=1.0, probability=1.0, cutmix_probability=0.5, repeats=3)
    how = (CROPPING, plan.policy_of(policy, argument(policy.table, device)), mixed, 0.5)
    for side in RESOLUTIONS[device]:
        crops = argument(tables.crop_rows(np.zeros((count, crop.PLAN_LENGTH)), image_of), device)
        steps = argument(np.zeros((count, policy.num_steps, 2)), device)
        table = argument(np.zeros((count, tables.FINISH_LENGTH), np.int64), device)
        views = torch.full((count, side, side, 3), 77, dtype=torch.uint8, device=device)
        scratch = argument(np.zeros(count * side * side, np.uint32), device)
        finished = torch.zeros(views.shape, device=device)
        levels, of_views = argument(finish_kernel.levels_of(MEAN, STD), device), given(views.view(-1))

        drawn = (image_table, crops, steps, table)
        plan.draw_views(int(SEED), argument(ids.view(np.int64), device), count, how, side, *drawn)
        resample_kernel.resample(pixels, image_table, crops, resample.BICUBIC, side, count, of_views)
        shape = (count, side, side)
        policy_kernel.apply_steps(steps, of_views, scratch, shape, policy.interpolation, FILL, threads=threads)
        written = finish_kernel.images_array(finished)
        finish_kernel.finish(finish_kernel.views_array(views), table, levels, erase.PIXEL, FLOAT32, shape, written)

        on_host = views.cpu().numpy()
        difference = on_host.astype(int) - views_of_cpu(images, ids, image_of, policy, side)
        assert np.abs(difference).max() <= (0 if device == "cpu" else 1)
        np.testing.assert_allclose(finished.cpu().numpy(), finished_on_cpu(on_host, ids, mixed), atol=1e-3)
