"""Writes and reads timm's folders, which `timm.create_model("local-dir:FOLDER", pretrained=True)` loads."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import save_for_hf
from torch import nn

from deit_fast.config import UserError
from deit_fast.export.card import Card
from deit_fast.export.exported import Exported
from deit_fast.kernels.resample import FILTERS
from deit_fast.model.heads import is_distilled
from deit_fast.train.trained import View


def write_timm_folder(exported: Exported, folder: Path) -> None:
    """Writes the folder. Raises UserError for a model that timm alone cannot build, or whose heads timm fuses otherwise."""
    card = exported.card
    if card.blurpool:
        raise UserError("export.timm: timm builds no model with model.blurpool; want another format, or a model without")
    view = card.view
    seen = {"mean": view.mean, "std": view.std, "crop_pct": view.crop_ratio, "interpolation": view.interpolation}
    names = {} if card.classes is None else {"label_names": card.classes}
    try:
        save_for_hf(
            _with_fused_heads(exported),
            str(folder),
            model_config=names,
            safe_serialization=True,
            data_config={"input_size": (3, view.resolution, view.resolution), **seen},
        )
    except ValueError as error:
        raise UserError(f"export.timm: timm cannot describe {card.architecture}: {error}; want another format") from error


def _with_fused_heads(exported: Exported) -> nn.Module:
    """The model, changed where needed so that the mean of both heads, which timm computes, is what eval.heads asks for.

    The mean of a head's double and zero is that head, exactly.
    """
    model, card = exported.model, exported.card
    if not is_distilled(model) or (card.heads, card.fusion) == ("both", "code"):
        return model
    if card.heads == "both":
        raise UserError(
            f"eval.fusion={card.fusion}: timm's folder has the mean of both heads' logits; want code, or another format"
        )
    model = copy.deepcopy(model)
    heads: dict[str, Any] = {"class": model.head, "distillation": model.head_dist}
    with torch.no_grad():
        for name, head in heads.items():
            for parameter in head.parameters():
                parameter.mul_(2.0 if name == card.heads else 0.0)
    return model


def read_timm_folder(folder: Path | str) -> tuple[nn.Module, Card]:
    """timm's model, in evaluation mode, and its card, from any folder that timm loads. Raises UserError if timm does not."""
    path = Path(folder) / "config.json"
    try:
        config = json.loads(path.read_bytes())
        model: nn.Module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    except Exception as error:  # whatever a folder lacks, timm says in its own way
        raise UserError(f"model {folder}: is no folder that timm loads ({error}); want config.json and weights") from error
    stated: Any = model.pretrained_cfg
    names = config.get("label_names")
    num_classes: int = model.num_classes  # type: ignore[assignment]
    card = Card(
        architecture=config["architecture"],
        options=config.get("model_args", {}),
        blurpool=False,
        num_classes=num_classes,
        classes=_listed(names, num_classes),
        view=_view(stated, folder),
        heads="both",
        fusion="code",
        weights="model",
        epoch=None,
    )
    return model.eval(), card


def _listed(names: Any, num_classes: int) -> list[str] | None:
    """Names of all classes in order; None if they are not given."""
    if isinstance(names, Mapping):
        return [str(names.get(str(label), label)) for label in range(num_classes)]
    return [str(name) for name in names] if isinstance(names, list) and len(names) == num_classes else None


def _view(stated: Mapping[str, Any], folder: Path | str) -> View:
    kind, mode = stated.get("interpolation", "bicubic"), stated.get("crop_mode", "center")
    if kind not in FILTERS or mode != "center":
        raise UserError(f"model {folder}: resizes by {kind} and crops by {mode}; want {', '.join(FILTERS)}, and center")
    mean, std = tuple(stated["mean"]), tuple(stated["std"])
    return View(stated["input_size"][-1], stated.get("crop_pct") or 0.875, kind, mean, std)
