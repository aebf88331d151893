"""Takes the state of a run, gives a file from which it goes on, or from which its model is used elsewhere.

A checkpoint is one dictionary of tensors and plain values, which `torch.load(weights_only=True)` reads. The weights stand
under `state_dict` and their average under `state_dict_ema`, where `timm.create_model(NAME, checkpoint_path=...)` finds them.
"""

from __future__ import annotations

import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deit_fast.config import ModelConfig, UserError
from deit_fast.record.run import replacing

FORMAT = 1


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint under its name only when it is whole and on the disk."""
    with replacing(path) as file:
        torch.save({"format": FORMAT, **content}, file)


def link_checkpoint(path: Path, name: str) -> None:
    """Give a finished checkpoint a second name in its folder, replacing what bore it; costs no bytes."""
    link = path.with_name(f".{name}.{os.getpid()}.part")
    link.unlink(missing_ok=True)
    link.hardlink_to(path)
    link.replace(path.with_name(name))


def load_checkpoint(path: Path | str) -> dict[str, Any]:
    """A checkpoint's content, on the CPU. Raises UserError for what is missing, damaged or not ours."""
    if not Path(path).is_file():
        raise UserError(f"checkpoint {path}: no such file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"checkpoint {path}: cannot be read: it is damaged, or not a checkpoint") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"checkpoint {path}: not a deit_fast checkpoint of format {FORMAT}")
    return content


def check_architecture(content: dict[str, Any], path: Path | str, model: ModelConfig, num_classes: int) -> None:
    """Raises UserError if a checkpoint is of another architecture or number of classes than a run's."""
    theirs = (content["model"]["name"], content["model"]["options"], content["num_classes"])
    ours = (model.name, model.options, num_classes)
    if theirs != ours:
        raise UserError(
            f"checkpoint {path}: of another architecture: it holds {_describe(*theirs)}, this run is {_describe(*ours)}"
        )


def load_weights(model: nn.Module, weights: dict[str, torch.Tensor], path: Path | str) -> None:
    """Copy weights into a model. Raises UserError if names or shapes differ."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"checkpoint {path}: its weights do not fit the model ({_first_line(error)})") from error


def _describe(name: str, options: dict[str, Any], num_classes: int) -> str:
    given = "".join(f" {key}={value}" for key, value in options.items())
    return f"{name}{given} with {num_classes} classes"


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300] if lines else type(error).__name__
