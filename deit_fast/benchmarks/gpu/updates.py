"""Times what follows a backward pass: AdamW's update of a model's weights, and their moving average, each in several ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from deit_fast.benchmarks.gpu.bounds import Needs, bounds_of
from deit_fast.benchmarks.gpu.ceilings import timed
from deit_fast.benchmarks.gpu.steps import model_config
from deit_fast.benchmarks.step import NUM_CLASSES
from deit_fast.config import RunConfig
from deit_fast.model.create import create_model
from deit_fast.train.ema import WeightAverage

# AdamW reads weight, gradient and two moments, and writes all but the gradient; an average reads both and writes itself, a copy
# reads one
_NUMBERS_OF_ADAMW = 7
_NUMBERS_OF_AVERAGE = 3
_NUMBERS_OF_COPY = 2
_FLOAT32_BYTES = 4


def update_times(
    config: RunConfig, device: torch.device, limits: dict[str, Any], name: str, *, repeats: int = 20
) -> dict[str, Any]:
    """Of each way to update the weights of the model of that name: `seconds` on the device and `queue_seconds` of the host,
    medians of `repeats`, the bytes that it `needs` to move and the `bounds` that follow from limits, the device's `ceilings`.

    - `AdamW, fused`, as training has it; `AdamW, foreach`; and `AdamW, one by one`, a few kernels for each parameter
    - `average, at once`, as training has it; and `average, one by one`
    """
    config = model_config(config, name)
    model = create_model(config.model, num_classes=NUM_CLASSES, resolution=config.data.resolution).to(device)
    parameters = list(model.parameters())
    for parameter in parameters:
        parameter.grad = torch.full_like(parameter, 1e-3)
    average = WeightAverage(model, config.train.ema_decay or 0.9999, warmup=False)
    ways: dict[str, dict[str, Any]] = {
        "fused": {"fused": True},
        "foreach": {"foreach": True},
        "one by one": {"foreach": False},
    }
    works: dict[str, Callable[[], object]] = {
        f"AdamW, {way}": torch.optim.AdamW(parameters, lr=1e-5, **how).step for way, how in ways.items()
    }
    works["average, at once"] = average.update
    works["average, one by one"] = lambda: average_one_by_one(average)
    bytes_of_adamw = _NUMBERS_OF_ADAMW * _FLOAT32_BYTES * sum(parameter.numel() for parameter in parameters)
    bytes_of_average = _NUMBERS_OF_AVERAGE * _num_bytes(average.averages) + _NUMBERS_OF_COPY * _num_bytes(average.copies)
    updates = {}
    for way, work in works.items():
        needs = Needs(bytes_of_adamw if way.startswith("AdamW") else bytes_of_average)
        found = timed(work, device, repeats=repeats)
        updates[way] = {
            "seconds": found.seconds,
            "queue_seconds": found.queue_seconds,
            "needs": needs.as_dict(),
            "bounds": bounds_of(needs, limits),
        }
    return {"model": name, "updates": updates}


def _num_bytes(tensors: list[torch.Tensor]) -> int:
    return sum(tensor.nbytes for tensor in tensors)


@torch.no_grad()
def average_one_by_one(average: WeightAverage) -> None:
    """What `average.update()` does to its tensors, by a call for each of them."""
    for mean, value in zip(average.averages, average.values, strict=True):
        mean.lerp_(value, 1.0 - average.decay)
    for copy, source in zip(average.copies, average.sources, strict=True):
        copy.copy_(source)
