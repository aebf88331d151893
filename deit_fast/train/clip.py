"""Clips gradients in place."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from deit_fast.config import OptimConfig
from deit_fast.model.heads import head_tensors

_LEAST_WEIGHT_NORM = 1e-3  # so that units of zeros can start to move (Brock et al., arXiv 2102.06171, section 4.1)


def clipped_parameters(config: OptimConfig, model: nn.Module) -> list[nn.Parameter]:
    """The parameters whose gradients `clip_gradients` limits: all, or with clip_mode adaptive all but the classifier's.

    Adaptive clipping harms the last linear layer (Brock et al., section 4.1). timm's training script leaves out the last two
    parameters; here every tensor with a row for each class is left out, in a distilled model those of both heads.
    """
    left_out = head_tensors(model) if config.clip_mode == "adaptive" and hasattr(model, "reset_classifier") else ()
    return [parameter for name, parameter in model.named_parameters() if name not in left_out]


@torch.no_grad()
def clip_gradients(config: OptimConfig, parameters: Iterable[nn.Parameter]) -> None:
    """Limit the gradients in place to optim.clip, as optim.clip_mode says; off: leave them. Nothing waits for the device.

    norm: all gradients are scaled so that their common norm is at most the limit. value: each number is clamped to
    -limit to limit. adaptive: each unit's gradient is scaled so that its norm is at most limit times that of its weights,
    which count as 1e-3 at least. A unit is a row: what has the same first index; a vector is one unit as a whole.

    Where gradients carry the scale of a gradient scaler, that has to be taken off before. timm's dispatch_clip_grad calls
    the modes norm, value and agc.
    """
    parameters = [parameter for parameter in parameters if parameter.grad is not None]
    if config.clip is None or not parameters:  # PyTorch's clip_grad_value_ raises where there is no gradient
        return
    if config.clip_mode == "norm":
        torch.nn.utils.clip_grad_norm_(parameters, config.clip)
    elif config.clip_mode == "value":
        torch.nn.utils.clip_grad_value_(parameters, config.clip)
    else:
        _clip_adaptively(parameters, config.clip)


def _clip_adaptively(parameters: list[nn.Parameter], limit: float) -> None:
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    # norms along some dimensions are the one part that PyTorch has no _foreach for
    limits = [_unit_norms(parameter) for parameter in parameters]
    norms = [_unit_norms(gradient) for gradient in gradients]
    torch._foreach_clamp_min_(limits, _LEAST_WEIGHT_NORM)
    torch._foreach_mul_(limits, limit)
    torch._foreach_maximum_(norms, limits)
    torch._foreach_div_(limits, norms)  # now factors: 1 where a norm was within its limit
    torch._foreach_mul_(gradients, limits)


def _unit_norms(tensor: torch.Tensor) -> torch.Tensor:
    """Norm of each row of a tensor, in a shape that broadcasts over it; a vector or number has one norm."""
    if tensor.ndim <= 1:
        return torch.linalg.vector_norm(tensor)
    return torch.linalg.vector_norm(tensor, dim=tuple(range(1, tensor.ndim)), keepdim=True)
