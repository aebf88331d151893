"""Tiny models of given architectures, random weights for models, and an image for them."""

from typing import Any

import torch
from torch import nn

from deit_fast.config import ModelConfig
from deit_fast.model.create import create_model

TINY = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
PLAIN, DISTILLED = "deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"


def shuffled(model: nn.Module, seed: int) -> nn.Module:
    """The model in evaluation mode with every weight drawn at random: a forgotten one would show."""
    generator = torch.Generator().manual_seed(seed)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.add_(0.05 * torch.rand(value.shape, generator=generator))
    return model.eval()


def tiny_model(name: str, *, num_classes: int = 5, resolution: int = 32, seed: int = 0, **options: Any) -> nn.Module:
    """The architecture of that name with TINY sizes, in evaluation mode; the seed is that of its weights."""
    torch.manual_seed(seed)
    config = ModelConfig(name=name, drop_path=0.0, options={**TINY, **options})
    return create_model(config, num_classes=num_classes, resolution=resolution).eval()


def random_images(resolution: int = 32) -> torch.Tensor:
    """The same image at each call, (1, 3, resolution, resolution) float32."""
    return torch.randn(1, 3, resolution, resolution, generator=torch.Generator().manual_seed(1))
