"""Measures images per second of training steps of several models on a batch that lies on the device."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from deit_fast.benchmarks.gpu.needs import forward_needs
from deit_fast.benchmarks.interleave import summary
from deit_fast.benchmarks.step import FIRST_STEPS, NUM_CLASSES, STEPS_PER_EPOCH, our_loop, synthetic_batch
from deit_fast.config import ModelConfig, RunConfig
from deit_fast.train.dist import World
from deit_fast.train.learner import Learner
from deit_fast.train.stop import Stop

# What a training step in bfloat16 moves for an image at 224, an estimate good to about 30 %: 4.8 TB/s of an H200 over 45,000,
# 23,000 and 11,000 images/s
_TRAFFIC_BYTES = {"deit_tiny_patch16_224": 107e6, "deit_small_patch16_224": 209e6, "deit_base_patch16_224": 436e6}
# other ways to compute a step, most promising first; all are options of train
_CHOICES: tuple[dict[str, str], ...] = (
    {"attention": "cudnn"}, {"patch_embed": "linear"}, {"compile": "default"}, {"compile": "max-autotune"},
    {"attention": "cudnn", "patch_embed": "linear", "compile": "max-autotune"}, {"attention": "flash"},
    {"attention": "efficient"}, {"compile": "reduce-overhead"}, {"attention": "math"},
)  # fmt: skip
_PROFILED_STEPS = 3
_NUM_SLOWEST = 10


def slowest_kernels(work: Callable[[], object], device: torch.device) -> list[dict[str, Any]]:
    """The kernels that take most of the time of `work`: name, calls, and share of the time of all kernels.

    On a CPU, PyTorch's operators.
    """
    activity = ProfilerActivity.CUDA if device.type == "cuda" else ProfilerActivity.CPU
    with profile(activities=[activity]) as profiled:
        work()
    rows = [row for row in profiled.key_averages() if activity == ProfilerActivity.CPU or row.device_type.name == "CUDA"]
    times = {row.key: (row.self_cpu_time_total if device.type == "cpu" else row.self_device_time_total) for row in rows}
    calls = {row.key: row.count for row in rows}
    total = sum(times.values())
    slowest = sorted(times, key=times.__getitem__, reverse=True)[:_NUM_SLOWEST]
    return [{"name": name, "calls": calls[name], "share": times[name] / total} for name in slowest]


def multiply_adds(model: ModelConfig, resolution: int) -> int:
    """Multiply-adds of a training step for one image: three times those of the forward pass."""
    return 3 * forward_needs(model, num_classes=NUM_CLASSES, resolution=resolution).multiply_adds


def model_config(config: RunConfig, name: str) -> RunConfig:
    """The configuration with another model; config.model's options are kept only if it has the same name."""
    if name == config.model.name:
        return config
    return config.changed({"model.name": name, "model.options": {}})


def choice_rates(config: RunConfig, world: World, name: str) -> dict[str, Callable[[], dict[str, Any]]]:
    """Parts that measure the `step_rate` of a model with each of _CHOICES that is not the configuration's already, by the
    options that it changes; the device may lack some."""
    now = config.train
    changes = ({key: value for key, value in one.items() if getattr(now, key) != value} for one in _CHOICES)
    return {
        f"step {name} {', '.join(f'{key}={value}' for key, value in one.items())}": functools.partial(
            step_rate, config.changed({f"train.{key}": value for key, value in one.items()}), world, name
        )
        for one in changes
        if one
    }


def step_rate(config: RunConfig, world: World, name: str) -> dict[str, Any]:
    """images_per_second of bench.rounds times bench.steps steps of a model, first steps apart, what it needs at least of the
    device for an image, and the device's kernels that take most of a step, measured apart."""
    if config.train.compile != "off":
        torch.compiler.reset()  # after some models PyTorch would leave the next one uncompiled
    config = model_config(config, name)
    learner = Learner(config, world, num_classes=NUM_CLASSES, steps_per_epoch=STEPS_PER_EPOCH)
    batch = synthetic_batch(config, world.device)
    step = our_loop(learner, batch, Stop(world))

    def seconds_of(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            step()
        learner.step.wait()
        return time.perf_counter() - started

    first_seconds = seconds_of(FIRST_STEPS)
    images = config.data.batch_size * config.bench.steps
    rates = [images / seconds_of(config.bench.steps) for _ in range(config.bench.rounds + 1)][1:]
    return {
        "images_per_second": summary(rates),
        "first_steps_seconds": first_seconds,
        "multiply_adds_per_image": multiply_adds(config.model, config.data.resolution),
        "bytes_per_image": _TRAFFIC_BYTES.get(name) if config.data.resolution == 224 else None,
        "slowest": slowest_kernels(lambda: seconds_of(_PROFILED_STEPS), world.device),
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if world.device.type == "cuda" else None,
    }
