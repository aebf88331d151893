"""Evaluates a model, or a file of weights (`deit-fast eval`): top-1, top-5 and loss, each image counted once."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional as F

from deit_fast.config import EvalConfig, RunConfig, UserError
from deit_fast.data.format.beton_set import BetonSet
from deit_fast.data.format.classes import training_labels
from deit_fast.data.load.loader import Loader, eval_loader
from deit_fast.data.load.order import EvalOrder
from deit_fast.data.load.placement import eval_place
from deit_fast.model.attention_kernel import attention_kernel, try_attention
from deit_fast.model.heads import fuse, head_logits, is_distilled
from deit_fast.model.memory_format import to_channels_last
from deit_fast.train.dist import World, joined_world
from deit_fast.train.step import autocast, check_dtype, on_device, resolve_amp
from deit_fast.train.trained import Trained, read_trained

_HEADS = {"both": "both heads", "class": "class head", "distillation": "distillation head"}
_FUSIONS = {"code": "mean of logits", "paper": "sum of softmaxes"}


class Decision:
    """Logits by which a model decides; for two heads, as eval.heads and eval.fusion say."""

    def __init__(self, model: nn.Module, config: EvalConfig, *, attention: str = "auto", compile_mode: str = "off") -> None:
        """attention: train.attention. compile_mode: off, or anything else, where the model is compiled once for batches of
        any size."""
        self._model = model
        self._config = config
        self._attention = attention
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
        with attention_kernel(self._attention):
            class_logits, distillation_logits = head_logits(self._model, images)
        if distillation_logits is None:
            return class_logits.float()
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
    """top1 and top5 in percent, mean cross-entropy `loss`, num_images, and images_refused, those that the device's decoder left
    to the CPU's, over all ranks' batches together.

    amp: off, bf16 or fp16. channels_last: memory format of the images. labels: for each label of the set the model's,
    where they differ. should_stop: asked after each batch, on each rank as often; None is given where it says so.
    """
    sums = torch.zeros(5, dtype=torch.float64, device=world.device)  # correct in 1, correct in 5, loss, images, refused
    num_refused = loader.num_refused
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
    sums[4] = loader.num_refused - num_refused
    correct_1, correct_5, loss, images, refused = world.sum(sums).tolist()
    return {
        "top1": 100 * correct_1 / images,
        "top5": 100 * correct_5 / images,
        "loss": loss / images,
        "num_images": int(images),
        "images_refused": int(refused),
    }


def num_batches(loader: Loader) -> int:
    """Number of batches on rank 0, which has the most; other ranks may have one less."""
    order = loader.order
    assert isinstance(order, EvalOrder)
    return EvalOrder(order.num_samples, order.batch_size, 0, order.world_size).steps_per_epoch


def evaluate_checkpoint(config: RunConfig) -> dict[str, Any]:
    """Evaluates eval.checkpoint on data.val, each image counted once. Gives the result; rank 0 also prints it.

    A checkpoint of deit_fast contains its architecture and view. For any other file of weights model.name gives the
    architecture, and timm its view. At another resolution position embeddings are interpolated.
    """
    for path in ("eval.checkpoint", "data.val"):
        section, name = path.split(".")
        if not getattr(getattr(config, section), name):
            raise UserError(f"{path} is not set")
    trained = read_trained(config, config.eval.checkpoint)
    # the view is the one that training evaluated, unless this command was told otherwise
    view = trained.view.changed(config.data)
    data, augment = view.shown_by(config.data, config.augment)
    resolution, crop_ratio = view.resolution, view.crop_ratio
    with joined_world(config.train.device) as world:
        data = dataclasses.replace(data, decode=eval_place(data, world.device))
        loader = eval_loader(data, augment, rank=world.rank, world_size=world.world_size, device=world.device)
        try:
            labels, remarks = labels_of(trained, loader.beton, config.eval.checkpoint)
            model, changes = trained.create(resolution)
            remarks += changes
            model = model.to(world.device).eval()
            if config.train.channels_last:
                model = to_channels_last(model)
            amp = resolve_amp(config.train.amp, world.device)
            check_dtype(data.dtype, amp)
            decision = Decision(model, config.eval, attention=config.train.attention)
            if config.train.attention != "auto":
                _try_attention(config, model, resolution, world.device)
            how: dict[str, Any] = {"amp": amp, "channels_last": config.train.channels_last}
            result = evaluate(decision, loader, world, **how, labels=labels)
            assert result is not None
        finally:
            loader.close()
        if world.is_main:
            for line in loader.beton.remarks:
                print(f"warning: {line}", file=sys.stderr)
            views = [f"{resolution} pixels of {round(resolution / crop_ratio)}"]
            views += ["decoded on the GPU"] if data.decode == "gpu" else []
            print(_line(trained, model, [*views, *remarks], config.eval, result))
    return {
        **result,
        "weights": trained.weights_name,
        "flip": config.eval.flip,
        "heads": config.eval.heads,
        "fusion": config.eval.fusion,
        "eval_resolution": resolution,
        "eval_crop_ratio": crop_ratio,
        "decode": data.decode,
        "checkpoint": config.eval.checkpoint,
        "val": data.val,
    }


@torch.inference_mode()
def _try_attention(config: RunConfig, model: nn.Module, resolution: int, device: torch.device) -> None:
    """Raises UserError if the model cannot use the kernel of train.attention on the device."""
    images = torch.zeros(1, 3, resolution, resolution, device=device)
    with autocast(resolve_amp(config.train.amp, device), device):
        try_attention(config.train.attention, model, images, option=f"checkpoint {config.eval.checkpoint}")


def labels_of(trained: Trained, val: BetonSet, path: str) -> tuple[NDArray[np.int64] | None, list[str]]:
    """The weights' label for each label of a beton, if they differ, and lines about them.

    Raises UserError if a beton's classes are not among those that the weights were trained on."""
    labels = training_labels(val, trained.classes, num_classes=trained.num_classes, trained_on=f"checkpoint {path}")
    if val.num_classes == trained.num_classes:
        return labels, []
    if labels is not None:
        return labels, [f"{len(labels)} of {trained.num_classes} classes"]
    if trained.is_of_other_code and val.classes is not None:
        raise UserError(
            f"checkpoint {path}: decides between {trained.num_classes} classes, {val.name} has {val.num_classes}; want weights "
            f"for these, or a beton of all {trained.num_classes}"
        )
    return None, [f"labels up to {val.num_classes - 1} for {trained.num_classes} classes"]


def _line(trained: Trained, model: nn.Module, remarks: list[str], config: EvalConfig, result: Mapping[str, Any]) -> str:
    """One line with the evaluated weights, the settings and the result."""
    parts = [trained.model.name]
    if trained.epoch is not None:
        parts += [f"epoch {trained.epoch + 1}"]
    parts += [f"{trained.weights_name} weights", *remarks]
    if config.flip:
        parts += ["mirror images added"]
    if is_distilled(model):
        parts += [_HEADS[config.heads] + (f" ({_FUSIONS[config.fusion]})" if config.heads == "both" else "")]
    return (
        f"{', '.join(parts)}: top-1 {result['top1']:.2f} %, top-5 {result['top5']:.2f} %, loss {result['loss']:.4f}, "
        f"{result['num_images']} images"
    )
