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

# AdamW reads weight, gradient and two moments, and writes all but the gradient; an average reads both and writes itself
_NUMBERS_OF_ADAMW = 7
_NUMBERS_OF_AVERAGE = 3
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
    works["average, one by one"] = lambda: _average_one_by_one(average.module, model, average.decay)
    num_bytes = _FLOAT32_BYTES * sum(parameter.numel() for parameter in parameters)
    updates = {}
    for way, work in works.items():
        needs = Needs((_NUMBERS_OF_ADAMW if way.startswith("AdamW") else _NUMBERS_OF_AVERAGE) * num_bytes)
        found = timed(work, device, repeats=repeats)
        updates[way] = {
            "seconds": found.seconds,
            "queue_seconds": found.queue_seconds,
            "needs": needs.as_dict(),
            "bounds": bounds_of(needs, limits),
        }
    return {"model": name, "updates": updates}


@torch.no_grad()
def _average_one_by_one(average: torch.nn.Module, model: torch.nn.Module, decay: float) -> None:
    for mean, value in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(value, 1.0 - decay)
