"""Evaluates a model: top-1, top-5 and loss over the whole set, each image counted once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from deit_fast.config import EvalConfig, UserError
from deit_fast.data.load.loader import Loader
from deit_fast.data.load.order import EvalOrder
from deit_fast.model.heads import fuse, head_logits, is_distilled
from deit_fast.train.dist import World
from deit_fast.train.prefetch import on_device
from deit_fast.train.step import autocast


class Decision:
    """Logits by which a model decides; for two heads, as eval.heads and eval.fusion say."""

    def __init__(self, model: nn.Module, config: EvalConfig, compile_mode: str = "off") -> None:
        """compile_mode: off, or anything else, where the model is compiled once for batches of any size."""
        self._model = model
        self._config = config
        self._is_distilled = is_distilled(model)
        if config.heads != "both" and not self._is_distilled:
            raise UserError(f"eval.heads={config.heads}: the model has one head; want both, or a distilled model")
        self._logits = self._of_heads if compile_mode == "off" else torch.compile(self._of_heads, dynamic=True)

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, C) float32 of images (B, 3, H, W); with eval.flip those of the mirror images are added."""
        logits = self._logits(images)
        if self._config.flip:
            logits = logits + self._logits(images.flip(3))
        return logits

    def _of_heads(self, images: torch.Tensor) -> torch.Tensor:
        if not self._is_distilled:
            logits: torch.Tensor = self._model(images)
            return logits.float()
        class_logits, distillation_logits = head_logits(self._model, images)
        assert distillation_logits is not None
        return fuse(class_logits.float(), distillation_logits.float(), self._config.heads, self._config.fusion)


@torch.inference_mode()
def evaluate(
    decision: Callable[[torch.Tensor], torch.Tensor],
    loader: Loader,
    world: World,
    *,
    amp: str,
    channels_last: bool,
    labels: NDArray[np.int64] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """top1 and top5 in percent, mean cross-entropy `loss`, and num_images, over all ranks' batches together.

    amp: off, bf16 or fp16. channels_last: memory format of the images. labels: for each label of the set the model's,
    where they differ. should_stop: asked after each batch, on each rank as often; None is given where it says so.
    """
    sums = torch.zeros(4, dtype=torch.float64, device=world.device)  # correct in 1, correct in 5, loss, images
    label_of = None if labels is None else torch.from_numpy(labels).to(world.device)
    with contextlib.closing(on_device(loader, world.device, channels_last=channels_last)) as batches:
        for _ in range(num_batches(loader)):
            batch = next(batches, None)
            if batch is not None:
                with autocast(amp, world.device):
                    logits = decision(batch.images)
                targets = batch.targets if label_of is None else label_of[batch.targets]
                best = logits.topk(min(5, logits.shape[1]), dim=1).indices == targets[:, None]
                sums[0] += best[:, 0].sum()
                sums[1] += best.sum()
                sums[2] += F.cross_entropy(logits, targets, reduction="sum")
                sums[3] += len(targets)
            if should_stop():
                return None
    correct_1, correct_5, loss, images = world.sum(sums).tolist()
    return {
        "top1": 100 * correct_1 / images,
        "top5": 100 * correct_5 / images,
        "loss": loss / images,
        "num_images": int(images),
    }


def num_batches(loader: Loader) -> int:
    """Number of batches on rank 0, which has the most; other ranks may have one less."""
    order = loader.order
    assert isinstance(order, EvalOrder)
    return EvalOrder(order.num_samples, order.batch_size, 0, order.world_size).steps_per_epoch


def check_dtype(dtype: str, amp: str) -> None:
    """Raises UserError if a model in a precision (off, bf16 or fp16) cannot take images of a dtype (data.dtype)."""
    if dtype == "uint8" or (dtype != "float32" and amp == "off"):
        raise UserError(f"data.dtype={dtype}: want float32 without mixed precision; or set train.amp to bf16 or fp16")
