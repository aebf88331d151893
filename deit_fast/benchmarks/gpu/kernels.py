"""Times each kernel of the GPU path on a batch, beside the bytes that it must move."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from deit_fast.augment.mixing import mixing_of
from deit_fast.augment.policy import fill_of, policy_of
from deit_fast.benchmarks.gpu.ceilings import median_seconds
from deit_fast.config import AugmentConfig
from deit_fast.kernels import crop, erase, rng
from deit_fast.kernels.resample import BICUBIC
from deit_fast.kernels.round import PRECISIONS

_IMAGE = (375, 500)  # height and width of ImageNet's most frequent size
_AUGMENTATION = ("policy", "finish")  # what the GPU adds to views that come from elsewhere


def kernel_times(
    augment: AugmentConfig,
    device: torch.device,
    *,
    count: int = 256,
    side: int = 224,
    image: tuple[int, int] = _IMAGE,
    dtype: str = "bfloat16",
    repeats: int = 50,
) -> dict[str, Any]:
    """Of each kernel on `count` views of side x side of random images: seconds, the median of `repeats`, and bytes that it
    reads and writes at least. `policy and finish` and `all` are several in a row. Raises UserError where kernels cannot run.
    """
    from deit_fast.kernels.cuda.driver import check_device

    check_device()
    works, num_bytes = _works(augment, device, count, side, image, dtype)
    rows = {name: (name,) for name in works} | {"policy and finish": _AUGMENTATION, "all": tuple(works)}

    def run(names: tuple[str, ...]) -> Callable[[], None]:
        def work() -> None:
            for name in names:
                works[name]()

        return work

    kernels = {
        row: {"seconds": median_seconds(run(names), device, repeats=repeats), "bytes": sum(num_bytes[name] for name in names)}
        for row, names in rows.items()
    }
    return {"views": count, "resolution": side, "image": list(image), "dtype": dtype, "kernels": kernels}


def _works(
    augment: AugmentConfig, device: torch.device, count: int, side: int, image: tuple[int, int], dtype: str
) -> tuple[dict[str, Callable[[], None]], dict[str, int]]:
    """A call of each kernel, in buffers made once, and its bytes."""
    from deit_fast.kernels.cuda import finish as finishing
    from deit_fast.kernels.cuda import plan, tables
    from deit_fast.kernels.cuda import policy as applying
    from deit_fast.kernels.cuda import resample as resampling
    from deit_fast.kernels.cuda.driver import array

    def there(values: np.ndarray) -> Any:
        return array(torch.from_numpy(values).to(device))

    seed, of_image = np.uint64(0), np.arange(count) // augment.repeats
    ids = rng.pack_view_ids(0, of_image, np.arange(count) % augment.repeats)
    num_images, image_bytes = int(of_image[-1]) + 1, 3 * math.prod(image)
    drawn, fill = policy_of(augment, "bicubic"), fill_of(augment)
    pixels = array(torch.randint(0, 256, (num_images * image_bytes,), dtype=torch.uint8).to(device))
    images = there(
        tables.image_rows(np.arange(num_images) * image_bytes, np.tile(np.array([image]), (num_images, 1)), is_planar=True)
    )
    plans = np.zeros((count, crop.PLAN_LENGTH), np.int64)
    crops = there(tables.crop_rows(plans, of_image))
    views = torch.zeros(count, side, side, 3, dtype=torch.uint8, device=device)
    finished = torch.empty(count, side, side, 3, dtype=getattr(torch, dtype), device=device)
    steps = there(np.zeros((count, drawn.num_steps, 2)))
    scratch = there(np.zeros(count * side * side, np.uint32))
    table = there(np.zeros((count, tables.FINISH_LENGTH), np.int64))
    levels = there(finishing.levels_of(np.array(augment.mean), np.array(augment.std)))
    cropping = crop.cropping(crop.RANDOM, flip=augment.flip, scale=augment.crop_scale, ratio=augment.crop_ratio)
    how = (cropping, plan.policy_of(drawn, there(drawn.table)), mixing_of(augment), augment.erase)
    ids_there, by_word = there(ids.view(np.int64)), finishing.views_array(views)
    flat, target, shape = array(views.view(-1)), finishing.images_array(finished), (count, side, side)
    works: dict[str, Callable[[], None]] = {
        "draw": lambda: plan.draw_views(0, ids_there, count, how, side, images, crops, steps, table),
        "resample": lambda: resampling.resample(pixels, images, crops, BICUBIC, side, count, flat),
        "policy": lambda: applying.apply_steps(steps, flat, scratch, shape, drawn.interpolation, fill),
        "finish": lambda: finishing.finish(
            by_word, table, levels, erase.MODES[augment.erase_mode], PRECISIONS[dtype], shape, target
        ),
    }
    heights, widths = (np.full(count, side_of_image, np.int64) for side_of_image in image)
    crop.plan_views(seed, ids, cropping, heights, widths, side, plans)
    view_bytes, finished_bytes = views.numel(), finished.numel() * finished.element_size()
    # a policy reads and writes each view once at least; what is mixed is read for both partners
    return works, {
        "draw": 0,
        "resample": int(3 * (plans[:, 2] * plans[:, 3]).sum()) + view_bytes,
        "policy": 2 * view_bytes,
        "finish": 2 * view_bytes + finished_bytes,
    }
