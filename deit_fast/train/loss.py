"""Losses of logits against soft targets."""

from __future__ import annotations

import torch
from torch.nn import functional as F


def soft_cross_entropy(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Mean over the batch of -sum(targets * log_softmax(logits)), in float32; timm's SoftTargetCrossEntropy.

    logits (B, C), any float dtype; targets (B, C) float32, each row summing to 1.
    """
    return F.cross_entropy(logits.float(), targets)


def binary_cross_entropy(logits: torch.Tensor, targets: torch.Tensor, threshold: float | None) -> torch.Tensor:
    """Mean over all B * C elements of the binary cross-entropy of sigmoid(logits), in float32.

    logits (B, C), any float dtype; targets (B, C) float32, each 0 to 1. threshold: targets above it count as 1, others
    as 0. At 0 both labels of a mixed image are right, whatever their shares (DeiT III, engine.py: `targets.gt(0.0)` before
    torch.nn.BCEWithLogitsLoss; timm's BinaryCrossEntropy calls it target_threshold). None: targets stay as they are.

    Label smoothing raises every target above 0: with threshold 0 all classes would count as right, so that DeiT III has
    smoothing 0.
    """
    if threshold is not None:
        targets = targets.gt(threshold)
    return F.binary_cross_entropy_with_logits(logits.float(), targets.float())
