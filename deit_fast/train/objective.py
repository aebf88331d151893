"""Model and training loss in one module, as `torch.compile` and DDP need it."""

from __future__ import annotations

from typing import Literal

import torch
from torch import nn
from torch.nn import functional as F

from deit_fast.config import DistilConfig, TrainConfig, UserError
from deit_fast.model.attention_kernel import attention_kernel
from deit_fast.model.heads import head_logits


class Objective(nn.Module):
    """A model and its loss, so that gradient exchange and compilation have the whole of both.

    With a distillation token the class head learns the targets and the distillation head the teacher; without one, the only
    head learns both ("usual" distillation). A model with a token and no teacher learns with the mean of its heads. Where
    distil.kind is cosub, the model sees the images twice, each time another submodel.
    """

    def __init__(self, model: nn.Module, train: TrainConfig, distil: DistilConfig) -> None:
        super().__init__()
        self.model = model
        self._train, self._distil = train, distil

    def forward(
        self, images: torch.Tensor, targets: torch.Tensor, answers: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss, a float32 scalar, and (2,) float32 without gradient: the loss, and the number of correct decisions.

        images (B, 3, H, W); targets (B, C) float32 soft targets; answers: of the teacher where there is one, as the method
        `answers` gives them. A decision is correct if the highest logit is that of the highest target; of two submodels, the
        first decides.
        """
        with attention_kernel(self._train.attention):
            if self._distil.kind == "cosub":
                logits, others = self.model(torch.cat([images, images])).chunk(2)
                loss = cosub_loss(self._train, self._distil.alpha, logits, others, targets)
            elif answers is not None:
                logits, token_logits = head_logits(self.model, images)
                student = logits if token_logits is None else token_logits
                loss = distillation_loss(self._distil, label_loss(self._train, logits, targets), student, answers)
            else:
                logits = self.model(images)
                loss = label_loss(self._train, logits, targets)
        correct = (logits.detach().argmax(1) == targets.argmax(1)).sum(dtype=loss.dtype)
        return loss, torch.stack([loss.detach(), correct])

    def answers(self, teacher_logits: torch.Tensor) -> torch.Tensor:
        """What distil.kind uses of a teacher's logits (B, C): hard: its most likely classes (B,) int64; soft: all of them."""
        return teacher_logits.argmax(dim=1) if self._distil.kind == "hard" else teacher_logits


def label_loss(config: TrainConfig, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The loss of logits (B, C) and soft targets (B, C) by train.loss, a float32 scalar."""
    if config.loss == "bce":
        return binary_cross_entropy(logits, targets, config.bce_threshold)
    return soft_cross_entropy(logits, targets)


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


def distillation_loss(config: DistilConfig, base: torch.Tensor, logits: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    """(1 - alpha) * base + alpha * distillation, in float32 (arXiv 2012.12877, section 3.1; DeiT's losses.py).

    base: the loss of the labels, a scalar; of a model with two heads, that of the class head. logits (B, C): of a model with
    two heads, the distillation head's. answers: of the teacher, as `Objective.answers` gives them, without gradient.
    config.kind is hard or soft.

    Raises UserError if the teacher's number of classes is another.
    """
    if answers.ndim == 2 and logits.shape != answers.shape:
        raise UserError(
            f"distil.teacher={config.teacher}: gives {answers.shape[-1]} classes, the model has {logits.shape[-1]}; "
            "want a teacher of the same data set"
        )
    if config.kind == "hard":
        distillation = hard_distillation(logits, answers)
    else:
        distillation = soft_distillation(logits, answers, config.tau, config.soft_scale)
    return (1 - config.alpha) * base.float() + config.alpha * distillation


def hard_distillation(logits: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Mean over the batch of the cross-entropy with the teacher's most likely class as the label, in float32.

    logits (B, C), any float dtype; classes (B,) int64, or (B, C) float32 with the shares of several.
    """
    return F.cross_entropy(logits.float(), classes)


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


def cosub_loss(
    config: TrainConfig, alpha: float, first: torch.Tensor, second: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """(1 - alpha) * mean of both submodels' losses of the labels + alpha * mean of their losses of each other, in float32.

    first and second (B, C): logits of the two submodels for the same images; targets (B, C). What a submodel learns from the
    other are its probabilities for each class, without gradient: sigmoids with train.loss=bce, a softmax with ce. With alpha
    0.5 each of the four has a quarter (arXiv 2212.04884, as DeiT's engine.py, --cosub, has it, whose loss is the binary one).
    """
    labels = label_loss(config, first, targets) + label_loss(config, second, targets)
    each_other = _loss_of_other(config, first, second) + _loss_of_other(config, second, first)
    return (1 - alpha) / 2 * labels + alpha / 2 * each_other


def _loss_of_other(config: TrainConfig, logits: torch.Tensor, others: torch.Tensor) -> torch.Tensor:
    others = others.detach().float()
    if config.loss == "bce":
        return binary_cross_entropy(logits, others.sigmoid(), None)
    return soft_cross_entropy(logits, others.softmax(1))
