"""Writes and reads safetensors files: weights by timm's names, and the card as metadata."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from deit_fast.config import ModelConfig, UserError
from deit_fast.export.card import Card, card_of
from deit_fast.export.exported import Exported
from deit_fast.train.trained import Trained


def write_safetensors(exported: Exported, path: Path) -> None:
    """Writes the file."""
    tensors = {name: value.contiguous() for name, value in exported.model.state_dict().items()}
    path.write_bytes(save(tensors, metadata={"format": "pt", **exported.card.as_metadata()}))


def has_card(path: Path | str) -> bool:
    """Whether `write_safetensors` wrote a safetensors file, which then has a card. Raises UserError if it is damaged."""
    return "deit_fast" in _metadata(path)


def read_safetensors(path: Path | str) -> tuple[Trained, Card]:
    """The trained model, and its card. Raises UserError if the file is damaged, or other code wrote it."""
    card = card_of(_metadata(path), path)
    model = ModelConfig(name=card.architecture, options=card.options, blurpool=card.blurpool, drop_path=0.0)
    weights = load_file(path)
    facts = (card.weights, card.num_classes, card.classes, card.view, card.epoch)
    return Trained(model, weights, *facts, path=str(path)), card


def _metadata(path: Path | str) -> dict[str, str]:
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"model {path}: cannot be read: {error}") from None
