"""Takes batches, gives the losses of a plain training loop of timm and PyTorch on them: nothing of deit_fast in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
from timm.loss import SoftTargetCrossEntropy
from timm.optim import param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn import functional as F

Batch = tuple[torch.Tensor, torch.Tensor]  # images, soft targets


@dataclass
class Plain:
    """A recipe as a script around timm has it; arguments are those of timm.create_model for student and teacher."""

    student: dict[str, Any]
    weights: dict[str, torch.Tensor]
    lr: float
    weight_decay: float
    epochs: int
    steps_per_epoch: int
    warmup_epochs: int
    ema_decay: float | None = None
    accumulate: int = 1
    kind: str = "off"  # of distillation: off, hard, soft
    alpha: float = 0.5
    tau: float = 1.0
    teacher: dict[str, Any] | None = None
    teacher_weights: dict[str, torch.Tensor] | None = None


@dataclass
class Result:
    """The loss of each step, and the state dicts in the end; ema is empty where there is none."""

    losses: list[float]
    weights: dict[str, torch.Tensor]
    ema: dict[str, torch.Tensor]


def run(plain: Plain, batches: Sequence[Batch]) -> Result:
    """Train on the batches in their order, float32, on the CPU."""
    model = timm.create_model(**plain.student)
    model.load_state_dict(plain.weights)
    model.train()
    teacher = None
    if plain.teacher is not None:
        teacher = timm.create_model(**plain.teacher).eval()
        teacher.load_state_dict(plain.teacher_weights)
        if hasattr(model, "set_distilled_training"):
            model.set_distilled_training(True)
    # DeiT's code decays the distillation token, which timm's models exempt by now
    groups = param_groups_weight_decay(model, plain.weight_decay, no_weight_decay_list=("pos_embed", "cls_token"))
    optimizer = torch.optim.AdamW(groups, lr=plain.lr)
    scheduler = CosineLRScheduler(
        optimizer, t_initial=plain.epochs, lr_min=1e-5, warmup_t=plain.warmup_epochs, warmup_lr_init=1e-6
    )
    average = ModelEmaV3(model, decay=plain.ema_decay) if plain.ema_decay else None
    losses = []
    for number, (images, targets) in enumerate(batches):
        epoch, step = divmod(number, plain.steps_per_epoch)
        optimizer.zero_grad()
        total = 0.0
        for piece, wanted in zip(images.chunk(plain.accumulate), targets.chunk(plain.accumulate), strict=True):
            loss = _loss(plain, model, teacher, piece, wanted) * len(piece) / len(images)
            loss.backward()
            total += loss.item()
        optimizer.step()
        if average is not None:
            average.update(model)
        losses.append(total)
        if step == plain.steps_per_epoch - 1:
            scheduler.step(epoch)  # at the end of an epoch, with its own number: DeiT's main.py
    ema = average.module.state_dict() if average is not None else {}
    return Result(losses, model.state_dict(), ema)


def _loss(
    plain: Plain, model: nn.Module, teacher: nn.Module | None, images: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    outputs = model(images)
    if teacher is None:
        base: torch.Tensor = SoftTargetCrossEntropy()(outputs, targets)
        return base
    class_logits, token_logits = outputs if isinstance(outputs, tuple) else (outputs, outputs)
    with torch.no_grad():
        teacher_logits = teacher(images)
    base = SoftTargetCrossEntropy()(class_logits, targets)
    if plain.kind == "hard":
        distilled = F.cross_entropy(token_logits, teacher_logits.argmax(dim=1))
    else:
        student = F.log_softmax(token_logits / plain.tau, dim=1)
        wanted = F.log_softmax(teacher_logits / plain.tau, dim=1)
        distilled = F.kl_div(student, wanted, reduction="sum", log_target=True) * plain.tau**2 / token_logits.numel()
    return base * (1 - plain.alpha) + distilled * plain.alpha
