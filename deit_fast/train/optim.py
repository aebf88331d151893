"""What moves the weights: parameter groups, the optimiser, its learning rate and state, and the clipping of gradients."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

import torch
from timm.layers import RmsNorm
from timm.models import group_parameters
from timm.models.mlp_mixer import Affine
from torch import nn

from deit_fast.config import OptimConfig, UserError
from deit_fast.model.heads import head_tensors
from deit_fast.train.lamb import Lamb

NUM_MOMENTS = {"adamw": 2, "lamb": 2, "sgd": 1}  # tensors that an optimiser keeps beside each parameter
_NORMS = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
    nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, RmsNorm,
)  # fmt: skip
_LEAST_WEIGHT_NORM = 1e-3  # so that units of zeros can start to move (Brock et al., arXiv 2102.06171, section 4.1)


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


def parameter_groups(config: OptimConfig, model: nn.Module) -> list[dict[str, Any]]:
    """Parameter groups for an optimiser: one group for each weight decay and scale of the learning rate.

    A group is {"params", "weight_decay", "lr_scale"}; `optim.set_lr` multiplies the rate by lr_scale. Groups and their
    parameters stand in the model's order, so that the state of an optimiser fits the same model and configuration again.

    Without decay are, by optim.no_decay:
    - code: parameters of one dimension, those named `bias`, and what the architecture's no_weight_decay() names, for ViTs
      pos_embed and cls_token. timm 0.3.2, which DeiT's code used, named no dist_token, so that it was decayed. ResMLP's scales
      and shifts are vectors in DeiT's code (resmlp_models.py); here they count as such, though timm's are (1, 1, channels).
    - paper: dist_token as well; timm's own groups since then, but for ResMLP's scales and shifts.
    - norms: weights and biases of normalisation layers, by the layers' type. ffcv-imagenet means these, but takes the
      parameters with "bn" in their name, which misses the normalisation of torchvision's shortcuts ("downsample.1").
      The classifier's bias is decayed.
    - off: no parameter.

    lr_scale is optim.layer_decay to the power of the number of layers above, counted as timm's group_matcher() has them:
    patches and embeddings are the lowest layer, the heads the highest.

    Raises UserError if no parameter trains, or if there are no layers for optim.layer_decay.
    """
    exempt = _exempt(config.no_decay, model)
    scales = _lr_scales(config.layer_decay, model)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            weight_decay = 0.0 if name in exempt else config.weight_decay
            groups.setdefault((weight_decay, scales.get(name, 1.0)), []).append(parameter)
    if not groups:
        raise UserError(f"model.trains: no parameter of {type(model).__name__} is left to train; want another value, or all")
    return [
        {"params": parameters, "weight_decay": weight_decay, "lr_scale": lr_scale}
        for (weight_decay, lr_scale), parameters in groups.items()
    ]


def _exempt(rule: str, model: nn.Module) -> set[str]:
    """Names of the parameters without weight decay by a rule of optim.no_decay."""
    if rule == "off":
        return set()
    if rule == "norms":
        return _parameters_of(model, _NORMS)
    # names, or patterns of names as timm's XCiT has them
    declared: Any = getattr(model, "no_weight_decay", set)
    patterns: set[str] = set(declared())
    if rule == "code":
        patterns.discard("dist_token")
    return _parameters_of(model, Affine) | {
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim <= 1 or name.endswith(".bias") or any(fnmatchcase(name, pattern) for pattern in patterns)
    }


def _parameters_of(model: nn.Module, kinds: type[nn.Module] | tuple[type[nn.Module], ...]) -> set[str]:
    """Names of the parameters that modules of some kinds hold themselves."""
    holders = ((prefix, module) for prefix, module in model.named_modules() if isinstance(module, kinds))
    return {name for prefix, module in holders for name, _ in module.named_parameters(prefix, recurse=False)}


def _lr_scales(layer_decay: float, model: nn.Module) -> dict[str, float]:
    """Scale of the learning rate by a parameter's name; empty where all have the same."""
    if layer_decay == 1:
        return {}
    matcher: Any = getattr(model, "group_matcher", None)
    layers: dict[str, int] = group_parameters(model, matcher(coarse=False), reverse=True) if matcher is not None else {}
    highest = max(layers.values(), default=0)
    if highest == 0:
        raise UserError(
            f"optim.layer_decay={layer_decay:g}: timm tells no layers of {type(model).__name__} apart (group_matcher); want 1"
        )
    return {name: layer_decay ** (highest - layer) for name, layer in layers.items()}


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
