"""Takes a configuration and names of models, gives images per second of their training steps on a batch that lies there."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from deit_fast.config import ModelConfig, RunConfig
from deit_fast.model.create import create_model
from deit_fast.study.bench_step import FIRST_STEPS, NUM_CLASSES, STEPS_PER_EPOCH, our_loop, synthetic_batch
from deit_fast.study.interleave import summary
from deit_fast.train.dist import World
from deit_fast.train.learner import Learner
from deit_fast.train.stop import Stop


def multiply_adds(model: ModelConfig, resolution: int) -> int:
    """Multiply-adds of a training step for one image: three times those of the forward pass."""
    with torch.device("meta"):
        network = create_model(model, num_classes=NUM_CLASSES, resolution=resolution).eval()
        images = torch.empty(1, 3, resolution, resolution)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images)
    return 3 * counter.get_total_flops() // 2  # PyTorch counts two for each


def model_config(config: RunConfig, name: str) -> RunConfig:
    """The configuration with another model: one with the options of config.model only where it is that one."""
    if name == config.model.name:
        return config
    return dataclasses.replace(config, model=dataclasses.replace(config.model, name=name, options={}))


def step_rate(config: RunConfig, world: World, name: str) -> dict[str, Any]:
    """images_per_second of bench.rounds times bench.steps steps of a model, first steps apart, and its multiply_adds."""
    config = model_config(config, name)
    learner = Learner(config, world, num_classes=NUM_CLASSES, steps_per_epoch=STEPS_PER_EPOCH)
    batch = synthetic_batch(config, world.device)
    step = our_loop(learner, batch, Stop(world))

    def seconds_of(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            step()
        if learner.step.num_unread:
            learner.step.read()  # waits for the device
        return time.perf_counter() - started

    first_seconds = seconds_of(FIRST_STEPS)
    images = config.data.batch_size * config.bench.steps
    rates = [images / seconds_of(config.bench.steps) for _ in range(config.bench.rounds + 1)][1:]
    return {
        "images_per_second": summary(rates),
        "first_steps_seconds": first_seconds,
        "multiply_adds_per_image": multiply_adds(config.model, config.data.resolution),
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if world.device.type == "cuda" else None,
    }
