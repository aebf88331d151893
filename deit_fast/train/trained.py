"""Reads a trained model from a file of weights: its architecture, its classes, and the view of images that it sees."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from deit_fast.config import AugmentConfig, DataConfig, ModelConfig, RunConfig, Triple, UserError
from deit_fast.model.create import create_model
from deit_fast.model.names import stated
from deit_fast.model.weights import Weights, fit_weights, num_classes_of, weights_of
from deit_fast.train.checkpoint import load_any


@dataclass(frozen=True)
class View:
    """How an image becomes the input of a model: resized, cropped in the centre, normalised.

    resolution: side in pixels. crop_ratio: that side over the shorter side of the resized image. mean, std: of red, green and
    blue, in units of 255 grey levels.
    """

    resolution: int
    crop_ratio: float
    interpolation: str
    mean: Triple
    std: Triple

    def changed(self, data: DataConfig) -> View:
        """The view with data.eval_resolution and data.eval_crop_ratio, where these are set."""
        return dataclasses.replace(
            self,
            resolution=data.eval_resolution or self.resolution,
            crop_ratio=data.eval_crop_ratio or self.crop_ratio,
        )

    def shown_by(self, data: DataConfig, augment: AugmentConfig) -> tuple[DataConfig, AugmentConfig]:
        """The configuration of an evaluation loader that shows this view."""
        sides = {"eval_resolution": self.resolution, "eval_crop_ratio": self.crop_ratio}
        seen: dict[str, Any] = {**sides, "interpolation": self.interpolation}
        data = dataclasses.replace(data, **seen)
        return data, dataclasses.replace(augment, mean=self.mean, std=self.std)


@dataclass(frozen=True)
class Trained:
    """Model, view and classes of a file of weights, as the file or else timm states them."""

    model: ModelConfig
    weights: Weights
    weights_name: str  # model or ema
    num_classes: int
    classes: list[str] | None
    view: View
    epoch: int | None  # from 0
    path: str

    @property
    def is_of_other_code(self) -> bool:
        """Whether other code wrote the file, which then has only the number of its classes."""
        return self.epoch is None

    def create(self, resolution: int) -> tuple[nn.Module, list[str]]:
        """The model with its weights, for a resolution in pixels, and a line for each adaptation of these (`fit_weights`)."""
        model = create_model(self.model, num_classes=self.num_classes, resolution=resolution)
        return model, fit_weights(model, self.weights, path=self.path)


def read_trained(config: RunConfig, path: str) -> Trained:
    """Reads a checkpoint of deit_fast, or weights of other code for the architecture of model.name and model.options.

    eval.weights chooses the weights. Raises UserError if model.name is missing but needed, or contradicts the file.
    """
    content = load_any(path)
    weights = weights_of(content, config.eval.weights, path=path)
    if "architecture" not in content:
        return _of_other_code(config, weights, path)
    model = ModelConfig(**content["architecture"])
    if config.model.name not in (ModelConfig().name, model.name):
        raise UserError(f"model.name={config.model.name}: checkpoint {path} holds {model.name}; leave the option out")
    name = content["best_weights"] if config.eval.weights == "auto" else config.eval.weights
    view = _view(content["view"])
    return Trained(model, weights, name, content["num_classes"], content["classes"], view, content["epoch"], path)


def _of_other_code(config: RunConfig, weights: Weights, path: str) -> Trained:
    """Weights from timm, DeiT's code or safetensors, for the architecture of model.name and model.options."""
    view = stated_view(config.model.name)
    with torch.device("meta"):  # for the names of its heads alone
        model = create_model(config.model, num_classes=1, resolution=view.resolution)
    num_classes = num_classes_of(model, weights, path=path)
    if num_classes is None:
        raise UserError(f"weights {path}: have no head; want a classifier's")
    name = "model" if config.eval.weights == "auto" else config.eval.weights
    return Trained(config.model, weights, name, num_classes, None, view, None, path)


def stated_view(name: str) -> View:
    """The view that timm states for an architecture; DeiT's where it knows none."""
    its = stated(name)
    return View(its.input_size[-1], its.crop_pct, its.interpolation, tuple(its.mean), tuple(its.std))


def _view(recorded: Mapping[str, Any]) -> View:
    """The view of a checkpoint."""
    sizes = recorded["eval_resolution"], recorded["eval_crop_ratio"]
    return View(*sizes, recorded["interpolation"], tuple(recorded["mean"]), tuple(recorded["std"]))
