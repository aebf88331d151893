"""Losses of distillation, from the logits of student and teacher."""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn import functional as F

from deit_fast.config import DistilConfig, UserError


def distillation_loss(
    config: DistilConfig, base: torch.Tensor, logits: torch.Tensor, teacher_logits: torch.Tensor
) -> torch.Tensor:
    """(1 - alpha) * base + alpha * distillation, in float32 (arXiv 2012.12877, section 3.1; DeiT's losses.py).

    base: the loss of the labels, a scalar; of a model with two heads, that of the class head. logits (B, C): of a model with
    two heads, the distillation head's. teacher_logits (B, C): no gradient goes there. config.kind is hard or soft.

    Raises UserError if the teacher's number of classes is another.
    """
    assert config.kind != "off"
    if logits.shape != teacher_logits.shape:
        raise UserError(
            f"distil.teacher={config.teacher}: gives {teacher_logits.shape[-1]} classes, the model has {logits.shape[-1]}; "
            "want a teacher of the same data set"
        )
    if config.kind == "hard":
        distillation = hard_distillation(logits, teacher_logits)
    else:
        distillation = soft_distillation(logits, teacher_logits, config.tau, config.soft_scale)
    return (1 - config.alpha) * base.float() + config.alpha * distillation


def hard_distillation(logits: torch.Tensor, teacher_logits: torch.Tensor) -> torch.Tensor:
    """Mean over the batch of the cross-entropy with the teacher's most likely class as the label, in float32.

    logits and teacher_logits (B, C), any float dtypes.
    """
    return F.cross_entropy(logits.float(), teacher_logits.argmax(dim=1))


def soft_distillation(
    logits: torch.Tensor, teacher_logits: torch.Tensor, tau: float, scale: Literal["code", "paper"]
) -> torch.Tensor:
    """tau ** 2 * sum(p * log(p / q)), divided by B * C ("code") or by B ("paper"), in float32.

    p and q are the softmaxes of the teacher's and of the student's logits, each divided by the temperature tau. logits and
    teacher_logits (B, C), any float dtypes; no gradient goes to the teacher.

    DeiT's losses.py divides by the number of logits, "to have the legacy PyTorch behavior": at 1000 classes a thousandth of
    the batch mean that the paper's formula and its lambda of 0.1 mean (facebookresearch/deit#61).
    """
    student = F.log_softmax(logits.float() / tau, dim=1)
    teacher = F.log_softmax(teacher_logits.detach().float() / tau, dim=1)
    total = F.kl_div(student, teacher, reduction="sum", log_target=True)
    return total * (tau * tau / (logits.numel() if scale == "code" else logits.shape[0]))
