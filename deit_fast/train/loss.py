"""Takes logits and soft targets, gives the loss."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def soft_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over the batch of -sum(targets * log_softmax(logits)), in float32.

    logits (B, C), any float dtype; targets (B, C) float32, each row summing to 1.
    """
    return F.cross_entropy(logits.float(), targets)
