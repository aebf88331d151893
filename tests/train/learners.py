"""Learners of a very small DeiT, and random batches for them: training without betons."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import timm
import torch

from deit_fast.config import RunConfig
from deit_fast.data.load.loader import Batch
from deit_fast.train.dist import World
from deit_fast.train.learner import Learner
from tests.tiny_runs import TINY, with_options

CPU = torch.device("cpu")
NUM_CLASSES = 10
# changes that each bring another part of a step into play
STEPS: dict[str, dict[str, Any]] = {
    "adamw": {},
    "sgd": {"optim.name": "sgd", "optim.nesterov": True},
    "lamb": {"optim.name": "lamb"},
    "timm's lion": {"optim.name": "timm:lion", "optim.options": {"betas": [0.9, 0.95]}},
    "patch dropout": {"model.patch_dropout": 0.5},
    "clip norm": {"optim.clip": 0.1},
    "clip value": {"optim.clip": 0.1, "optim.clip_mode": "value"},
    "clip adaptive": {"optim.clip": 0.1, "optim.clip_mode": "adaptive"},
    "ema": {"train.ema_decay": 0.99, "train.ema_warmup": True},
    "bf16, bce, accumulate": {"train.amp": "bf16", "train.loss": "bce", "train.accumulate": 3},
    "convnet": {"model.name": "resnet10t", "model.options": {}, "train.ema_decay": 0.9},
    "cosub, skip": {"distil.kind": "cosub", "model.drop_path": 0.5, "model.drop_path_kind": "skip"},
    "layer decay, heads": {"optim.layer_decay": 0.7, "model.trains": "attention"},
}
TEACHER = {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 1}


def small_config(changes: Mapping[str, Any] = MappingProxyType({}), device: torch.device = CPU) -> RunConfig:
    """A configuration without betons; changes as {"section.option": value}."""
    options = {
        "data.batch_size": 12, "data.resolution": 32, "model.name": "deit_tiny_patch16_224", "model.options": TINY,
        "schedule.warmup_epochs": 0, "train.device": device.type, "train.amp": "off", "train.ema_decay": None,
        "train.log_every": 50, "optim.lr": 1e-3, "optim.lr_batch_size": None, **changes,
    }  # fmt: skip
    return with_options(options)


def small_learner(
    changes: Mapping[str, Any] = MappingProxyType({}), device: torch.device = CPU, world: World | None = None
) -> Learner:
    """A learner on one rank, with epochs of 100 steps."""
    config = small_config(changes, device)
    return Learner(config, world or World(0, 1, device), num_classes=NUM_CLASSES, steps_per_epoch=100)


def random_batch(number: int = 0, size: int = 12, device: torch.device = CPU, side: int = 32) -> Batch:
    """Noise, and soft targets that lie between two classes; the same for each number."""
    generator = torch.Generator().manual_seed(number)
    images = torch.randn(size, 3, side, side, generator=generator).contiguous(memory_format=torch.channels_last)
    classes = torch.randint(NUM_CLASSES, (size, 2), generator=generator)
    targets = torch.zeros(size, NUM_CLASSES).scatter_add_(1, classes, torch.tensor([[0.7, 0.3]]).expand(size, 2))
    ids = torch.arange(size)
    return Batch(images.to(device), targets.to(device), ids, torch.zeros_like(ids))


def distilling(folder: Path, num_classes: int = NUM_CLASSES) -> dict[str, Any]:
    """Changes with which a learner has a distillation token and a teacher, whose weights go into a folder."""
    torch.manual_seed(1)
    teacher = timm.create_model("deit_tiny_patch16_224", num_classes=num_classes, img_size=32, **TEACHER)
    torch.save(teacher.state_dict(), folder / "teacher.pth")
    return {
        "model.name": "deit_tiny_distilled_patch16_224", "distil.kind": "soft", "distil.tau": 3.0,
        "distil.teacher": "deit_tiny_patch16_224", "distil.teacher_options": TEACHER,
        "distil.teacher_weights": str(folder / "teacher.pth"),
    }  # fmt: skip


def copied_weights(learner: Learner) -> dict[str, torch.Tensor]:
    """The model's weights as they are now, on the CPU."""
    return {name: value.detach().cpu().clone() for name, value in learner.model.state_dict().items()}


def losses_of(learner: Learner, num_steps: int = 3) -> list[float]:
    """Losses of steps on random batches."""
    losses = []
    for step in range(num_steps):
        learner.train_on(random_batch(step, device=learner.world.device), 0, step)
        losses.append(learner.step.read().loss)
    return losses
