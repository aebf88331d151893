"""Small teachers of the digits, and configurations that teach by them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch

from deit_fast.config import RunConfig

ARCHITECTURE: dict[str, Any] = {"patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 1}
STUDENT = "deit_tiny_distilled_patch16_224"


def teacher_weights(folder: Path, seed: int = 1) -> Path:
    """A file of random weights whose answers vary from image to image."""
    torch.manual_seed(seed)
    teacher = timm.create_model("deit_tiny_patch16_224", num_classes=10, img_size=32, **ARCHITECTURE)
    for name, parameter in teacher.named_parameters():
        if name.endswith(("proj.weight", "qkv.weight", "head.weight")):
            torch.nn.init.normal_(parameter, std=1.0)
    teacher.head.bias.data -= teacher(torch.randn(256, 3, 32, 32)).mean(0)  # no class is above all others
    path = folder / f"teacher-{seed}.pth"
    torch.save(teacher.state_dict(), path)
    return path


def taught_by(weights: Path) -> dict[str, Any]:
    """Options of a teacher."""
    return {
        "distil.teacher": "deit_tiny_patch16_224", "distil.teacher_options": ARCHITECTURE,
        "distil.teacher_weights": str(weights),
    }  # fmt: skip


def without_teacher(config: RunConfig, labels: Path, **changes: Any) -> RunConfig:
    """The run, which learns from a file of labels instead."""
    return config.changed({"distil.teacher_weights": "", "distil.labels": str(labels), **changes})
