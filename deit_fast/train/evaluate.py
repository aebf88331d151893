"""Takes a model and an evaluation loader, gives top-1, top-5 and loss over every image of the set, counted once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.nn import functional as F

from deit_fast.config import ModelConfig, RunConfig, UserError
from deit_fast.data.beton import Beton
from deit_fast.data.loader import Batch, eval_loader
from deit_fast.model.create import create_model, to_channels_last
from deit_fast.train.checkpoint import load_checkpoint, load_weights
from deit_fast.train.dist import World, joined_world
from deit_fast.train.step import autocast, resolve_amp


@torch.inference_mode()
def evaluate(
    model: Callable[[torch.Tensor], torch.Tensor], batches: Iterable[Batch], world: World, *, amp: str, flip: bool
) -> dict[str, Any]:
    """top1 and top5 in percent, mean cross-entropy `loss`, and num_images, over all ranks' batches together.

    amp: off, bf16 or fp16. flip: the logits of each image and of its mirror image are added.
    """
    sums = torch.zeros(4, dtype=torch.float64, device=world.device)  # correct in 1, correct in 5, loss, images
    for batch in batches:
        with autocast(amp, world.device):
            logits = model(batch.images)
            if flip:
                logits = logits + model(batch.images.flip(3))
        logits = logits.float()
        best = logits.topk(min(5, logits.shape[1]), dim=1).indices == batch.targets[:, None]
        sums[0] += best[:, 0].sum()
        sums[1] += best.sum()
        sums[2] += F.cross_entropy(logits, batch.targets, reduction="sum")
        sums[3] += len(batch.targets)
    correct_1, correct_5, loss, images = world.sum(sums).tolist()
    return {
        "top1": 100 * correct_1 / images,
        "top5": 100 * correct_5 / images,
        "loss": loss / images,
        "num_images": int(images),
    }


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
            result = evaluate(model, loader, world, amp=amp, flip=config.eval.flip)
        finally:
            loader.close()
        if world.is_main:
            mirrored = ", mirror images added" if config.eval.flip else ""
            print(
                f"{content['architecture']['name']}, epoch {content['epoch'] + 1}, {weights} weights{mirrored}: "
                f"top-1 {result['top1']:.2f} %, top-5 {result['top5']:.2f} %, loss {result['loss']:.4f}, "
                f"{result['num_images']} images"
            )
    return {**result, "weights": weights, "flip": config.eval.flip, "checkpoint": config.eval.checkpoint, "val": data.val}


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
