"""Finds a model's class head and distillation head, computes their logits, and fuses them into one prediction."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from timm.models.deit import VisionTransformerDistilled
from torch import nn

from deit_fast.config import UserError


def is_distilled(model: nn.Module) -> bool:
    """Whether a model has a distillation token with its own head, like timm's deit_*_distilled_*."""
    return isinstance(model, VisionTransformerDistilled)


def head_tensors(model: nn.Module) -> tuple[str, ...]:
    """Names in the state dict of a timm model's tensors that have a row for each class; none without a head.

    timm's own reset_classifier gives a copy without values another number of classes, which shows them: architectures have
    heads in many places (CrossViT one per branch, VOLO one for the patches besides the class token's), beside layers that
    stay, such as the normalisation before LeViT's.
    """
    num_classes: int = model.num_classes  # type: ignore[assignment]
    values = [*model.parameters(), *model.buffers()]
    copied: Any = copy.deepcopy(model, {id(value): _without_values(value) for value in values})
    with torch.device("meta"):
        copied.reset_classifier(num_classes + 1)
    changed = copied.state_dict()
    return tuple(
        name
        for name, value in model.state_dict().items()
        # a reset may remove a second head, as in RepViT
        if value.ndim and value.shape[0] == num_classes and (name not in changed or changed[name].shape != value.shape)
    )


def _without_values(value: torch.Tensor) -> torch.Tensor:
    empty = torch.empty_like(value, device="meta")
    return nn.Parameter(empty, value.requires_grad) if isinstance(value, nn.Parameter) else empty


def head_names(model: nn.Module) -> tuple[str, ...]:
    """Names of the layers that compute a timm model's logits: one, or class and distillation head; none without a head."""
    return tuple(dict.fromkeys(name.rpartition(".")[0] for name in head_tensors(model)))


def head_logits(model: nn.Module, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Class logits (B, C) and distillation logits (B, C), None without such a head, of images (B, 3, H, W).

    Works in training and evaluation mode, unlike timm's forward, which returns both heads' logits in training mode and their
    mean in evaluation mode.
    """
    if not isinstance(model, VisionTransformerDistilled):
        return model(images), None
    tokens = model.forward_features(images)
    return model.head(model.head_drop(tokens[:, 0])), model.head_dist(model.head_drop(tokens[:, 1]))


def fuse(
    class_logits: torch.Tensor, distillation_logits: torch.Tensor | None, heads: str = "both", fusion: str = "code"
) -> torch.Tensor:
    """Logits (B, C) of a model's prediction, from those of its heads (eval.heads and eval.fusion).

    heads: both, class or distillation. fusion of both: code, the mean of the logits, as in DeiT's and timm's code; paper, the
    logarithm (float32) of the mean of the softmaxes. Its softmax is that mean, and its largest entry is that of the sum of the
    softmaxes (arXiv 2012.12877, section 4). Without distillation logits, returns the class logits unchanged.
    Raises UserError if the distillation head must decide and there is none.
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
