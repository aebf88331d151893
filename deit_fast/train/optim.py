"""Takes a model, gives its optimiser with DeiT's parameter groups."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from deit_fast.config import OptimConfig

# DeiT's code leaves these out of the decay by name; its dist_token is decayed (facebookresearch/deit, models.py)
_NOT_DECAYED = ("pos_embed", "cls_token")


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Two groups: with weight decay, and without it (1-D parameters, biases, pos_embed and cls_token)."""
    decayed: list[nn.Parameter] = []
    not_decayed: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        is_exempt = parameter.ndim <= 1 or name.endswith(".bias") or name in _NOT_DECAYED
        (not_decayed if is_exempt else decayed).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": not_decayed, "weight_decay": 0.0}]


def create_optimizer(config: OptimConfig, model: nn.Module, lr: float) -> torch.optim.Optimizer:
    """The optimiser at a learning rate that the schedule sets anew; one fused kernel for all parameters."""
    groups = parameter_groups(model, config.weight_decay)
    if config.name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=config.momentum, fused=True)
    return torch.optim.AdamW(groups, lr=lr, betas=config.betas, eps=config.eps, fused=True)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = lr
