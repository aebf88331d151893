"""Takes a model and images, gives the logits of its class head and of its distillation head, and what both decide."""

from __future__ import annotations

import math

import torch
from timm.models.deit import VisionTransformerDistilled
from torch import nn

from deit_fast.config import UserError


def is_distilled(model: nn.Module) -> bool:
    """Whether a model has a distillation token with a head of its own, as timm's deit_*_distilled_* have."""
    return isinstance(model, VisionTransformerDistilled)


def head_names(model: nn.Module) -> tuple[str, ...]:
    """Names of the layers that give a timm model's logits: one, or class and distillation head; none without a head."""
    heads = model.get_classifier()  # type: ignore[operator]
    heads = heads if isinstance(heads, tuple) else (heads,)
    names = {module: name for name, module in model.named_modules()}
    return tuple(names[head] for head in heads if next(head.parameters(), None) is not None)


def head_logits(model: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Class logits (B, C) and distillation logits (B, C) of images (B, 3, H, W); None for the latter without such a head.

    Whether the model is in training or evaluation mode: timm's forward returns both heads' logits in training mode alone.
    The mean of both is what timm's model gives in evaluation mode.
    """
    if not isinstance(model, VisionTransformerDistilled):
        return model(images), None
    tokens = model.forward_features(images)
    return model.head(model.head_drop(tokens[:, 0])), model.head_dist(model.head_drop(tokens[:, 1]))


def fuse(
    class_logits: torch.Tensor, distillation_logits: torch.Tensor | None, heads: str = "both", fusion: str = "code"
) -> torch.Tensor:
    """Logits (B, C) of what a model predicts, from those of its heads (eval.heads and eval.fusion).

    heads: both, class or distillation. fusion of both: code, the mean of the logits, as DeiT's and timm's code; paper, the
    mean of the softmaxes, as its logarithm (float32), so that its softmax is that mean, and its largest entry that of the
    sum of the softmaxes (arXiv 2012.12877, section 4). Without distillation logits the class logits, as they are.
    Raises UserError if the distillation head shall decide and there is none.
    """
    if distillation_logits is None:
        if heads == "distillation":
            raise UserError("eval.heads=distillation: the model has no distillation head; want both or class")
        return class_logits
    if heads == "class":
        return class_logits
    if heads == "distillation":
        return distillation_logits
    if fusion == "code":
        return (class_logits + distillation_logits) / 2
    class_log_softmax = class_logits.float().log_softmax(dim=1)
    return torch.logaddexp(class_log_softmax, distillation_logits.float().log_softmax(dim=1)) - math.log(2.0)
