"""Opens a trained model to classify images with: a checkpoint, or what `export` wrote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from deit_fast.config import EvalConfig, RunConfig, UserError
from deit_fast.export.card import Card
from deit_fast.export.exported import check_heads
from deit_fast.export.onnx_file import read_onnx
from deit_fast.export.pt2_file import read_pt2
from deit_fast.export.safetensors_file import has_card, read_safetensors
from deit_fast.export.timm_folder import read_timm_folder
from deit_fast.model.memory_format import to_channels_last
from deit_fast.train.evaluate import Decision
from deit_fast.train.step import autocast, memory_format, resolve_amp
from deit_fast.train.trained import Trained, View, read_trained

Logits = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Predictor:
    """A model that classifies. classes: names in the order of the logits, or their numbers. logits: (B, C) float32 of images
    (B, 3, resolution, resolution) float32, of the view, on the CPU or the device."""

    name: str
    classes: list[str]
    view: View
    logits: Logits
    device: torch.device


def open_predictor(config: RunConfig, device: torch.device) -> Predictor:
    """The model predict.model, with the view that it was trained for, or the one of data.eval_resolution and
    data.eval_crop_ratio.

    Raises UserError for what is no model, and for options that a model of its kind cannot have.
    """
    path = config.predict.model
    if not path:
        raise UserError("predict.model is not set: want a checkpoint, or what `deit-fast export` wrote")
    if Path(path).is_dir():
        model, card = read_timm_folder(path)
        _check_fixed(config, card)
        return _of_card(card, config, _decision(model, config, config.eval, device), device)
    if path.endswith((".onnx", ".pt2")):
        is_onnx = path.endswith(".onnx")
        if not Path(path).is_file():
            raise UserError(f"model {path}: no such file")
        on = torch.device("cpu") if is_onnx else device
        logits, card = read_onnx(path) if is_onnx else read_pt2(path, on)
        _check_fixed(config, card)
        return _of_card(card, config, _with_flip(logits, config.eval.flip, on), on)
    if path.endswith(".safetensors") and Path(path).is_file() and has_card(path):
        trained, card = read_safetensors(path)
        _check_exported(config)
        return _of_trained(trained, config, EvalConfig(flip=config.eval.flip, heads=card.heads, fusion=card.fusion), device)
    return _of_trained(read_trained(config, path), config, config.eval, device)


def _of_trained(trained: Trained, config: RunConfig, how: EvalConfig, device: torch.device) -> Predictor:
    view = trained.view.changed(config.data)
    model, _ = trained.create(view.resolution)
    check_heads(model, how)
    logits = _decision(model, config, how, device)
    return Predictor(trained.model.name, _names(trained.classes, trained.num_classes), view, logits, device)


def _of_card(card: Card, config: RunConfig, logits: Logits, device: torch.device) -> Predictor:
    view = card.view.changed(config.data)
    return Predictor(card.architecture, _names(card.classes, card.num_classes), view, logits, device)


def _names(classes: list[str] | None, num_classes: int) -> list[str]:
    return [str(label) for label in range(num_classes)] if classes is None else list(classes)


def _decision(model: nn.Module, config: RunConfig, how: EvalConfig, device: torch.device) -> Logits:
    """Logits by a PyTorch model as `eval` computes them."""
    model = model.to(device).eval()
    if config.train.channels_last:
        model = to_channels_last(model)
    decide, amp = Decision(model, how), resolve_amp(config.train.amp, device)
    layout = memory_format(config.train.channels_last)

    def logits(images: torch.Tensor) -> torch.Tensor:
        with autocast(amp, device):
            return decide(images.to(device, memory_format=layout))

    return logits


def _with_flip(logits: Logits, flip: bool, device: torch.device) -> Logits:
    def both(images: torch.Tensor) -> torch.Tensor:
        images = images.to(device).contiguous()
        return logits(images) + logits(images.flip(3)) if flip else logits(images)

    return both


def _check_exported(config: RunConfig) -> None:
    """Raises UserError for options that were settled when the model was exported."""
    default = EvalConfig()
    for name in ("weights", "heads", "fusion"):
        value = getattr(config.eval, name)
        if value != getattr(default, name):
            raise UserError(f"eval.{name}={value}: {config.predict.model} was exported with one output; want a checkpoint")


def _check_fixed(config: RunConfig, card: Card) -> None:
    """Raises UserError for options that a model with fixed inputs and outputs cannot have."""
    _check_exported(config)
    resolution = config.data.eval_resolution
    if resolution not in (None, card.view.resolution):
        raise UserError(
            f"data.eval_resolution={resolution}: {config.predict.model} was exported for {card.view.resolution} pixels; want "
            "these, or a checkpoint or safetensors"
        )
