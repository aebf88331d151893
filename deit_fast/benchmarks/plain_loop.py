"""A plain training loop of PyTorch and timm: `bench step` measures ours beside it, tests hold ours against it.

Nothing of deit_fast is in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from timm.utils import ModelEmaV3, dispatch_clip_grad
from torch import nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Recipe:
    """What each step does.

    precision: of autocast, None for float32. accumulate: pieces of a batch. loss: cross-entropy, or binary cross-entropy with
    targets above bce_threshold as 1 (None: as they are). clip_mode: timm's names. ema_decay: None for no average.
    kind, alpha, tau, soft_scale: of distillation, as arXiv 2012.12877 and DeiT's losses.py have them; cosub: two submodels of
    stochastic depth learn from each other (DeiT's engine.py). bf16_gradients: ranks
    exchange them in bfloat16. compile: a mode of torch.compile, or off. attention: its kernel, None for PyTorch's choice.
    """

    precision: torch.dtype | None = None
    accumulate: int = 1
    loss: Literal["ce", "bce"] = "ce"
    bce_threshold: float | None = None
    clip: float | None = None
    clip_mode: Literal["norm", "value", "agc"] = "norm"
    ema_decay: float | None = None
    kind: Literal["off", "hard", "soft", "cosub"] = "off"
    alpha: float = 0.5
    tau: float = 1.0
    soft_scale: Literal["code", "paper"] = "code"
    bf16_gradients: bool = False
    compile: str = "off"
    attention: SDPBackend | None = None


class PlainLoop:
    """The loop of a script around PyTorch and timm, with DistributedDataParallel where there are several ranks.

    `average`: timm's moving average of the weights, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        recipe: Recipe,
        *,
        teacher: Callable[[torch.Tensor], torch.Tensor] | None = None,
        clipped: Iterable[nn.Parameter] | None = None,
    ) -> None:
        """model: gives logits (B, C), or with a distillation token those of both heads; on its device, in its training mode.

        teacher: gives logits (B, C). clipped: the parameters whose gradients are clipped; None: all."""
        self._device = next(model.parameters()).device
        self._optimizer, self._recipe, self._teacher = optimizer, recipe, teacher
        self.average = ModelEmaV3(model, decay=recipe.ema_decay) if recipe.ema_decay else None
        self._model = model
        if recipe.attention is not None:
            model = _Attending(model, recipe.attention)
        self._scaler = torch.amp.GradScaler(self._device.type, enabled=recipe.precision == torch.float16)
        self._clipped = list(model.parameters() if clipped is None else clipped)
        self._ranks: DistributedDataParallel | None = None
        if torch.distributed.is_initialized() and torch.distributed.get_world_size() > 1:
            self._ranks = DistributedDataParallel(model, gradient_as_bucket_view=True)
            if recipe.bf16_gradients:
                self._ranks.register_comm_hook(None, bf16_compress_hook)
        self._forward: Any = self._ranks or model
        if recipe.compile != "off":
            self._forward = torch.compile(self._forward, mode=recipe.compile, dynamic=False)

    def step(self, images: torch.Tensor, targets: torch.Tensor) -> list[torch.Tensor]:
        """Trains on images (B, 3, H, W) and soft targets (B, C), on the device. Gives the losses of the pieces, each times its
        share of the batch: their sum is the loss of the batch."""
        recipe = self._recipe
        losses = []
        pieces = list(zip(images.chunk(recipe.accumulate), targets.chunk(recipe.accumulate), strict=True))
        for number, (piece, wanted) in enumerate(pieces):
            is_last = number == len(pieces) - 1
            with nullcontext() if is_last or self._ranks is None else self._ranks.no_sync():
                with torch.autocast(self._device.type, recipe.precision, enabled=recipe.precision is not None):
                    loss = self._loss(piece, wanted)
                if len(pieces) > 1:
                    loss = loss * (len(piece) / len(images))
                self._scaler.scale(loss).backward()
            losses.append(loss.detach())
        if recipe.clip:
            self._scaler.unscale_(self._optimizer)
            dispatch_clip_grad(self._clipped, recipe.clip, recipe.clip_mode)
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self._model)
        return losses

    def _loss(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        recipe = self._recipe
        with torch.no_grad():
            teacher_logits = None if self._teacher is None else self._teacher(images)
        if recipe.kind == "cosub":
            return self._cosub_loss(images, targets)
        outputs = self._forward(images)
        logits, student = outputs if isinstance(outputs, tuple) else (outputs, outputs)
        loss = self._label_loss(logits, targets)
        if teacher_logits is None:
            return loss
        if recipe.kind == "hard":
            distillation = F.cross_entropy(student, teacher_logits.argmax(1))
        else:
            mine, wanted = F.log_softmax(student / recipe.tau, 1), F.log_softmax(teacher_logits / recipe.tau, 1)
            divisor = student.numel() if recipe.soft_scale == "code" else len(student)
            distillation = F.kl_div(mine, wanted, reduction="sum", log_target=True) * recipe.tau**2 / divisor
        return (1 - recipe.alpha) * loss + recipe.alpha * distillation

    def _label_loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        threshold = self._recipe.bce_threshold
        if self._recipe.loss == "ce":
            return F.cross_entropy(logits, targets)
        return F.binary_cross_entropy_with_logits(logits, targets if threshold is None else targets.gt(threshold).float())

    def _cosub_loss(self, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        is_binary, alpha = self._recipe.loss == "bce", self._recipe.alpha
        outputs = self._forward(torch.cat((images, images), dim=0)).split(len(images))
        loss: Any = 0.0
        for own, other in (outputs, outputs[::-1]):
            soft = other.detach().sigmoid() if is_binary else other.detach().softmax(1)
            from_other = F.binary_cross_entropy_with_logits(own, soft) if is_binary else F.cross_entropy(own, soft)
            loss = loss + (1 - alpha) / 2 * self._label_loss(own, targets) + alpha / 2 * from_other
        return loss


class _Attending(nn.Module):
    """A model that computes attention by one kernel."""

    def __init__(self, model: nn.Module, kernel: SDPBackend) -> None:
        super().__init__()
        self.model, self.kernel = model, kernel

    def forward(self, images: torch.Tensor) -> Any:
        with sdpa_kernel(self.kernel):
            return self.model(images)
