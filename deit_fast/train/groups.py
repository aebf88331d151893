"""Groups a model's parameters by weight decay and scale of the learning rate."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

from timm.layers import RmsNorm
from timm.models import group_parameters
from torch import nn

from deit_fast.config import OptimConfig, UserError

_NORMS = (
    nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d,
    nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, RmsNorm,
)  # fmt: skip


def parameter_groups(config: OptimConfig, model: nn.Module) -> list[dict[str, Any]]:
    """Parameter groups for an optimiser: one group for each weight decay and scale of the learning rate.

    A group is {"params", "weight_decay", "lr_scale"}; `optim.set_lr` multiplies the rate by lr_scale. Groups and their
    parameters stand in the model's order, so that the state of an optimiser fits the same model and configuration again.

    Without decay are, by optim.no_decay:
    - code: parameters of one dimension, those named `bias`, and what the architecture's no_weight_decay() names, for ViTs
      pos_embed and cls_token. timm 0.3.2, which DeiT's code used, named no dist_token, so that it was decayed.
    - paper: dist_token as well; timm's own groups since then.
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
        return {
            name
            for prefix, module in model.named_modules()
            if isinstance(module, _NORMS)
            for name, _ in module.named_parameters(prefix, recurse=False)
        }
    # names, or patterns of names as timm's XCiT has them
    declared: Any = getattr(model, "no_weight_decay", set)
    patterns: set[str] = set(declared())
    if rule == "code":
        patterns.discard("dist_token")
    return {
        name
        for name, parameter in model.named_parameters()
        if parameter.ndim <= 1 or name.endswith(".bias") or any(fnmatchcase(name, pattern) for pattern in patterns)
    }


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
