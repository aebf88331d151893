"""Prepares a model for export: timm's own layers, in evaluation mode, with one output."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import nn

from deit_fast.config import EvalConfig, ModelConfig, RunConfig, UserError
from deit_fast.export.card import Card
from deit_fast.model.heads import fuse, head_logits, is_distilled
from deit_fast.train.trained import Trained, read_trained


class Classifier(nn.Module):
    """Gives logits (B, C) of images (B, 3, H, W), from the heads that eval.heads and eval.fusion choose."""

    def __init__(self, model: nn.Module, heads: str, fusion: str) -> None:
        super().__init__()
        self.model, self._heads, self._fusion = model, heads, fusion

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        class_logits, distillation_logits = head_logits(self.model, images)
        return fuse(class_logits, distillation_logits, self._heads, self._fusion)


@dataclass(frozen=True, eq=False)
class Exported:
    """A model to export. model: timm's, float32, on the CPU, in evaluation mode. remarks: how its weights were adapted."""

    model: nn.Module
    card: Card
    remarks: list[str]

    @property
    def classifier(self) -> Classifier:
        """The model with one output."""
        return Classifier(self.model, self.card.heads, self.card.fusion).eval()

    def examples(self, num_images: int, seed: int = 0) -> torch.Tensor:
        """Random images (num_images, 3, resolution, resolution) float32."""
        side = self.card.view.resolution
        return torch.randn(num_images, 3, side, side, generator=torch.Generator().manual_seed(seed))


def exported_of(config: RunConfig) -> Exported:
    """The model of export.checkpoint, for data.eval_resolution if that is set. Raises UserError as `eval` does."""
    if not config.export.checkpoint:
        raise UserError("export.checkpoint is not set: want a checkpoint, or a file of weights and its model.name")
    trained = read_trained(config, config.export.checkpoint)
    trained = dataclasses.replace(trained, model=plain(trained.model), view=trained.view.changed(config.data))
    model, remarks = trained.create(trained.view.resolution)
    check_heads(model, config.eval)
    return Exported(model.float().eval(), _card(trained, config.eval), remarks)


def plain(model: ModelConfig) -> ModelConfig:
    """The configuration without options that matter in training alone: the model computes the same, with timm's own layers."""
    own = ModelConfig(drop_path=0.0, dropout=0.0)
    return dataclasses.replace(own, name=model.name, options=model.options, blurpool=model.blurpool)


def check_heads(model: nn.Module, config: EvalConfig) -> None:
    """Raises UserError if eval.heads chooses one of two heads and the model has one."""
    if config.heads != "both" and not is_distilled(model):
        raise UserError(f"eval.heads={config.heads}: the model has one head; want both, or a distilled model")


def _card(trained: Trained, config: EvalConfig) -> Card:
    model = trained.model
    return Card(
        architecture=model.name,
        options=model.options,
        blurpool=model.blurpool,
        num_classes=trained.num_classes,
        classes=trained.classes,
        view=trained.view,
        heads=config.heads,
        fusion=config.fusion,
        weights=trained.weights_name,
        epoch=trained.epoch,
    )
