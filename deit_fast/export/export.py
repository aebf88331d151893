"""Exports a trained model (`deit-fast export`): each file is read back and compared before it gets its name."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from deit_fast.config import ExportConfig, RunConfig, UserError
from deit_fast.data.format.files import sync
from deit_fast.export.exported import Classifier, Exported, exported_of
from deit_fast.export.onnx_file import Logits, check_packages, read_onnx, write_onnx
from deit_fast.export.pt2_file import read_pt2, write_pt2
from deit_fast.export.safetensors_file import read_safetensors, write_safetensors
from deit_fast.export.timm_folder import read_timm_folder, write_timm_folder
from deit_fast.model.create import num_parameters

TOLERANCE = 1e-4  # of logits, over the largest of a batch or 1
_BATCH_SIZES = (1, 2, 5)
_CPU = torch.device("cpu")

_WRITE: dict[str, Callable[[Exported, Path], None]] = {
    "safetensors": write_safetensors,
    "timm": write_timm_folder,
    "onnx": write_onnx,
    "pt2": write_pt2,
}


def export_model(config: RunConfig) -> dict[str, Any]:
    """Writes export.checkpoint in each format that has a path. Gives the model's facts, and of each file what was written.

    Each file is written beside its place, read back as `predict` reads it, and compared with the PyTorch model on random
    batches of several sizes; then it replaces what has its name. Raises UserError for a model that a format cannot hold.
    """
    paths = _paths(config.export)
    exported = exported_of(config)
    card = exported.card
    of_epoch = "" if card.epoch is None else f", epoch {card.epoch + 1}"
    print(", ".join([f"{card.architecture}{of_epoch}, {card.weights} weights", *exported.remarks]))
    files = {}
    for kind, path in paths.items():
        with _replaced_by_part(path) as part:
            _WRITE[kind](exported, part)
            difference = largest_difference(exported, _read(kind, part))
            if not difference <= TOLERANCE:
                raise UserError(
                    f"export.{kind}={path}: its logits differ from PyTorch's by {difference:.1e}, more than {TOLERANCE}; "
                    "want another format for this model"
                )
            num_bytes = sum(file.stat().st_size for file in ([part] if part.is_file() else part.iterdir()))
        files[kind] = {"path": str(path), "bytes": num_bytes, "largest_difference": difference}
        print(f"{path}: {num_bytes:,} bytes, logits within {difference:.1e} of PyTorch's")
    return {
        "checkpoint": config.export.checkpoint,
        "architecture": card.architecture,
        "parameters": num_parameters(exported.model),
        "num_classes": card.num_classes,
        "weights": card.weights,
        "files": files,
    }


@torch.inference_mode()
def largest_difference(exported: Exported, logits: Logits) -> float:
    """Largest difference of logits from PyTorch's, relative to a batch's largest or 1, on random batches of several sizes."""
    found = 0.0
    for seed, batch_size in enumerate(_BATCH_SIZES):
        images = exported.examples(batch_size, seed)
        wanted = exported.classifier(images)
        difference = (logits(images) - wanted).abs().max() / wanted.abs().max().clamp(min=1.0)
        found = max(found, float(difference.nan_to_num(nan=float("inf"))))
    return found


def _read(kind: str, path: Path) -> Logits:
    """The logits of an exported file, read as `predict` reads it."""
    if kind == "onnx":
        return read_onnx(path)[0]
    if kind == "pt2":
        return read_pt2(path, _CPU)[0]
    if kind == "timm":
        return read_timm_folder(path)[0]
    trained, card = read_safetensors(path)
    return Classifier(trained.create(card.view.resolution)[0].eval(), card.heads, card.fusion)


def _paths(config: ExportConfig) -> dict[str, Path]:
    """Where to write each format. Raises UserError if there is none, or one that cannot be written."""
    paths = {kind: Path(getattr(config, kind)) for kind in _WRITE if getattr(config, kind)}
    if not paths:
        raise UserError(f"export: no file to write; want one or more of {', '.join(f'--export.{kind}' for kind in _WRITE)}")
    for kind, path in paths.items():
        if not path.absolute().parent.is_dir():
            raise UserError(f"export.{kind}={path}: {path.absolute().parent} is not a folder: make it first, or choose another")
        if kind == "timm" and path.exists() and not (path.is_dir() and _may_be_replaced(path)):
            raise UserError(f"export.timm={path}: holds other files than a model of timm; want a new folder")
        if kind != "timm" and path.is_dir():
            raise UserError(f"export.{kind}={path}: is a folder; want a file")
    if "onnx" in paths:
        check_packages("export.onnx")
    return paths


def _may_be_replaced(folder: Path) -> bool:
    return {entry.name for entry in folder.iterdir()} <= {"config.json", "model.safetensors"}


@contextlib.contextmanager
def _replaced_by_part(path: Path) -> Iterator[Path]:
    """A path beside `path`, whose file or folder replaces that of `path` when the block ends, and is deleted if it raises."""
    part = path.absolute().with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        for file in [part] if part.is_file() else part.iterdir():
            sync(file)
        if path.is_dir():
            shutil.rmtree(path)
        part.replace(path)
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        part.unlink(missing_ok=True)
