"""Model and training loss in one module, as `torch.compile` and DDP need it."""

from __future__ import annotations

import torch
from torch import nn

from deit_fast.config import DistilConfig, TrainConfig
from deit_fast.model.heads import head_logits, is_distilled
from deit_fast.train.distil import distillation_loss
from deit_fast.train.loss import binary_cross_entropy, soft_cross_entropy


class Objective(nn.Module):
    """A model and its loss, so that gradient exchange and compilation have the whole of both.

    With a distillation token the class head learns the targets and the distillation head the teacher; without one, the only
    head learns both ("usual" distillation). A model with a token and no teacher learns with the mean of its heads.
    """

    def __init__(self, model: nn.Module, train: TrainConfig, distil: DistilConfig) -> None:
        super().__init__()
        self.model = model
        self._train, self._distil = train, distil
        self._has_token = is_distilled(model)

    def forward(
        self, images: torch.Tensor, targets: torch.Tensor, teacher_logits: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, a float32 scalar, and (2,) float32 without gradient: the loss, and the number of correct decisions.

        images (B, 3, H, W); targets (B, C) float32 soft targets; teacher_logits (B, C) where distil.kind is not off. A
        decision is correct if the highest logit is that of the highest target.
        """
        if teacher_logits is not None and self._has_token:
            logits, token_logits = head_logits(self.model, images)
            assert token_logits is not None
        else:
            logits = token_logits = self.model(images)
        if self._train.loss == "bce":
            loss = binary_cross_entropy(logits, targets, self._train.bce_threshold)
        else:
            loss = soft_cross_entropy(logits, targets)
        if teacher_logits is not None:
            loss = distillation_loss(self._distil, loss, token_logits, teacher_logits)
        correct = (logits.detach().argmax(1) == targets.argmax(1)).sum(dtype=loss.dtype)
        return loss, torch.stack([loss.detach(), correct])
