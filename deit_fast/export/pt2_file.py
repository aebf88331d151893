"""Writes and reads files of torch.export: a graph from images to logits, for any batch size; the card is an extra file."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch
from torch.export.passes import move_to_device_pass

from deit_fast.config import UserError
from deit_fast.export.card import Card, card_of
from deit_fast.export.exported import Exported
from deit_fast.export.onnx_file import Logits

_CARD = "deit_fast.json"


def write_pt2(exported: Exported, path: Path) -> None:
    """Writes the file. Raises UserError for a model that torch.export does not translate."""
    dynamic = {"images": {0: torch.export.Dim("batch")}}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.export.export(exported.classifier, (exported.examples(2),), dynamic_shapes=dynamic)
    except (torch._dynamo.exc.UserError, RuntimeError, ValueError) as error:
        line = str(error).strip().partition("\n")[0]
        raise UserError(f"export.pt2: torch.export does not translate {exported.card.architecture}: {line}") from error
    with path.open("wb") as file:
        torch.export.save(program, file, extra_files={_CARD: json.dumps(exported.card.as_metadata())})


def read_pt2(path: Path | str, device: torch.device) -> tuple[Logits, Card]:
    """Logits (B, C) float32 of images (B, 3, H, W) float32 on the device, and the card. Raises UserError as `card_of` does."""
    extra: dict[str, str] = {_CARD: ""}
    try:
        with Path(path).open("rb") as file:
            program = torch.export.load(file, extra_files=extra)
    except Exception as error:  # a zip archive, or what is in it, may be damaged in any way
        line = str(error).strip().partition("\n")[0]
        raise UserError(f"model {path}: cannot be read as a file of torch.export: {line}") from error
    text = extra[_CARD]
    card = card_of(json.loads(text) if text else None, path)
    if device.type != "cpu":
        program = move_to_device_pass(program, device)
    return program.module(), card
