"""The optimiser of a model: its creation, its learning rate, its state."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from deit_fast.config import OptimConfig, UserError
from deit_fast.train.groups import parameter_groups
from deit_fast.train.lamb import Lamb


def create_optimizer(config: OptimConfig, model: nn.Module, lr: float) -> torch.optim.Optimizer:
    """The optimiser of the model's parameters that train, at a learning rate that the schedule sets anew.

    AdamW and SGD are PyTorch's, with one fused kernel for all parameters of a group, which CUDA and the CPU both have; LAMB
    is ours, of _foreach operations. AdamW decays a weight by lr * weight_decay, SGD adds weight_decay times the weight to
    the gradient. optim.nesterov is what timm's name `sgd` stands for, so also DeiT's `--opt sgd`; without it, timm's
    `momentum` and ffcv-imagenet's SGD.

    Raises UserError if no parameter trains, there are no layers for optim.layer_decay, or nesterov has no momentum.
    """
    groups = parameter_groups(config, model)
    optimizer: torch.optim.Optimizer
    if config.name == "sgd":
        if config.nesterov and config.momentum == 0:
            raise UserError("optim.nesterov=true: wants optim.momentum above 0, got 0; set a momentum, or no nesterov")
        optimizer = torch.optim.SGD(groups, lr=lr, momentum=config.momentum, nesterov=config.nesterov, fused=True)
    elif config.name == "lamb":
        optimizer = Lamb(groups, lr=lr, betas=config.betas, eps=config.eps)
    else:
        optimizer = torch.optim.AdamW(groups, lr=lr, betas=config.betas, eps=config.eps, fused=True)
    set_lr(optimizer, lr)
    return optimizer


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate: of each group, lr times its lr_scale. Numbers of Python, which no device has to be asked for."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Take up an optimiser's state. Fused kernels want moments in the memory format of their parameters: PyTorch's own
    load_state_dict leaves them as they lie in the checkpoint."""
    optimizer.load_state_dict(state)
    for parameter, values in optimizer.state.items():
        for name, value in values.items():
            if isinstance(value, torch.Tensor) and value.shape == parameter.shape:
                values[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
