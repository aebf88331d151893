"""Takes a model and an evaluation loader, gives top-1, top-5 and loss over every image of the set, counted once."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from deit_fast.config import EvalConfig, ModelConfig, RunConfig, UserError
from deit_fast.data.beton import Beton
from deit_fast.data.loader import Loader, eval_loader
from deit_fast.data.order import EvalOrder
from deit_fast.model.create import create_model, to_channels_last
from deit_fast.model.heads import fuse, head_logits, is_distilled
from deit_fast.train.checkpoint import load_checkpoint, load_weights
from deit_fast.train.dist import World, joined_world
from deit_fast.train.feed import on_device
from deit_fast.train.step import autocast, resolve_amp

_HEADS = {"both": "both heads", "class": "class head", "distillation": "distillation head"}
_FUSIONS = {"code": "mean of logits", "paper": "sum of softmaxes"}


class Decision:
    """What a model decides on images: its logits, or those of the heads that eval.heads and eval.fusion name."""

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
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any] | None:
    """top1 and top5 in percent, mean cross-entropy `loss`, and num_images, over all ranks' batches together.

    amp: off, bf16 or fp16. should_stop: asked after each batch, on each rank as often; None is given where it says so.
    """
    sums = torch.zeros(4, dtype=torch.float64, device=world.device)  # correct in 1, correct in 5, loss, images
    with contextlib.closing(on_device(loader, world.device)) as batches:
        for _ in range(_most_batches(loader)):
            batch = next(batches, None)
            if batch is not None:
                with autocast(amp, world.device):
                    logits = decision(batch.images)
                best = logits.topk(min(5, logits.shape[1]), dim=1).indices == batch.targets[:, None]
                sums[0] += best[:, 0].sum()
                sums[1] += best.sum()
                sums[2] += F.cross_entropy(logits, batch.targets, reduction="sum")
                sums[3] += len(batch.targets)
            if should_stop():
                return None
    correct_1, correct_5, loss, images = world.sum(sums).tolist()
    return {
        "top1": 100 * correct_1 / images,
        "top5": 100 * correct_5 / images,
        "loss": loss / images,
        "num_images": int(images),
    }


def _most_batches(loader: Loader) -> int:
    """Batches of the rank that has the most, which is the first; another may have one less."""
    order = loader.order
    assert isinstance(order, EvalOrder)
    return EvalOrder(order.num_samples, order.batch_size, 0, order.world_size).steps_per_epoch


def evaluate_checkpoint(config: RunConfig) -> dict[str, Any]:
    """`deit-fast eval`: the model of a checkpoint on data.val. The result, which rank 0 also prints."""
    for path in ("eval.checkpoint", "data.val"):
        section, name = path.split(".")
        if not getattr(getattr(config, section), name):
            raise UserError(f"{path} is not set")
    content = load_checkpoint(config.eval.checkpoint)
    weights = config.eval.weights
    if weights == "auto":
        weights = content["best_weights"]
    key = {"model": "state_dict", "ema": "state_dict_ema"}[weights]
    if key not in content:
        raise UserError(f"eval.weights={weights}: checkpoint {config.eval.checkpoint} holds none; want model")
    # the view is the one that training evaluated, unless this command was told otherwise
    view = content["view"]
    data = dataclasses.replace(
        config.data,
        eval_resolution=config.data.eval_resolution or view["eval_resolution"],
        eval_crop_ratio=config.data.eval_crop_ratio or view["eval_crop_ratio"],
        interpolation=view["interpolation"],
    )
    augment = dataclasses.replace(config.augment, mean=tuple(view["mean"]), std=tuple(view["std"]))
    with joined_world(config.train.device) as world:
        loader = eval_loader(data, augment, rank=world.rank, world_size=world.world_size, device=world.device)
        check_classes(content["classes"], content["num_classes"], loader.beton, config.eval.checkpoint)
        options = ModelConfig(**content["architecture"])
        model = create_model(options, num_classes=content["num_classes"], resolution=data.eval_resolution)
        load_weights(model, content[key], config.eval.checkpoint)
        model = model.to(world.device).eval()
        if config.train.channels_last:
            model = to_channels_last(model)
        amp = resolve_amp(config.train.amp, world.device)
        check_dtype(data.dtype, amp)
        try:
            result = evaluate(Decision(model, config.eval), loader, world, amp=amp)
            assert result is not None
        finally:
            loader.close()
        if world.is_main:
            mirrored = ", mirror images added" if config.eval.flip else ""
            if is_distilled(model):
                mirrored += f", {_HEADS[config.eval.heads]}" + (
                    f" ({_FUSIONS[config.eval.fusion]})" if config.eval.heads == "both" else ""
                )
            print(
                f"{content['architecture']['name']}, epoch {content['epoch'] + 1}, {weights} weights{mirrored}: "
                f"top-1 {result['top1']:.2f} %, top-5 {result['top5']:.2f} %, loss {result['loss']:.4f}, "
                f"{result['num_images']} images"
            )
    return {
        **result,
        "weights": weights,
        "flip": config.eval.flip,
        "heads": config.eval.heads,
        "fusion": config.eval.fusion,
        "checkpoint": config.eval.checkpoint,
        "val": data.val,
    }


def check_dtype(dtype: str, amp: str) -> None:
    """Raises UserError if images of a type (data.dtype) are none that a model in a precision (off, bf16 or fp16) takes."""
    if dtype == "uint8" or (dtype != "float32" and amp == "off"):
        raise UserError(f"data.dtype={dtype}: want float32 without mixed precision; or set train.amp to bf16 or fp16")


def check_classes(classes: list[str] | None, num_classes: int, val: Beton, path: str) -> None:
    """Raises UserError if a beton's classes are not those that a checkpoint was trained on."""
    if classes is not None and val.classes is not None and list(val.classes) != list(classes):
        raise UserError(f"{val.path}: its classes are not those of checkpoint {path} ({len(val.classes)} and {len(classes)})")
    if int(val.labels.max()) >= num_classes:
        raise UserError(f"{val.path}: has label {int(val.labels.max())}, checkpoint {path} knows {num_classes} classes")
