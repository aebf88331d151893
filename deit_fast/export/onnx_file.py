"""Writes and reads ONNX files: images in, logits out, for any batch size; the card is in the model's metadata_props."""

from __future__ import annotations

import contextlib
import importlib
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from deit_fast.config import UserError
from deit_fast.export.card import Card, card_of
from deit_fast.export.exported import Exported
from deit_fast.output import silent

_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
_LARGEST_BYTES = 1 << 31  # of a file of protobuf
Logits = Callable[[torch.Tensor], torch.Tensor]


def check_packages(option: str, names: tuple[str, ...] = _PACKAGES) -> None:
    """Raises UserError if a package is missing."""
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            raise UserError(f"{option}: the package {name} is not installed: pip install 'deit_fast[onnx]'") from None


def write_onnx(exported: Exported, path: Path) -> None:
    """Writes the file. Raises UserError for a model that torch.onnx does not translate, or too large for one file."""
    card = exported.card
    num_bytes = sum(value.numel() * value.element_size() for value in exported.model.state_dict().values())
    if num_bytes >= _LARGEST_BYTES:
        raise UserError(f"export.onnx: {num_bytes:,} bytes of weights are more than ONNX holds in a file; want another format")
    batch = torch.export.Dim("batch")
    try:
        with _quiet():
            program = torch.onnx.export(
                exported.classifier,
                (exported.examples(2),),
                dynamo=True,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes={"images": {0: batch}},
            )
    except (torch.onnx.errors.OnnxExporterError, torch._dynamo.exc.UserError, RuntimeError, ValueError) as error:
        raise UserError(f"export.onnx: torch.onnx does not translate {card.architecture}: {_first_line(error)}") from error
    assert program is not None
    proto: Any = program.model_proto
    if not proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise UserError(f"export.onnx: torch.onnx fixes the batch size of {card.architecture}; want another format")
    for name, text in card.as_metadata().items():
        proto.metadata_props.add(key=name, value=text)
    path.write_bytes(proto.SerializeToString())


def read_onnx(path: Path | str) -> tuple[Logits, Card]:
    """Logits (B, C) float32 of images (B, 3, H, W) float32, both on the CPU, by onnxruntime; and the card.

    Raises UserError if onnxruntime is missing or cannot load the file, or if other code wrote it.
    """
    check_packages(f"model {path}", ("onnxruntime",))
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as error:  # its classes of errors have no common base
        raise UserError(f"model {path}: onnxruntime cannot load it: {_first_line(error)}") from None
    card = card_of(session.get_modelmeta().custom_metadata_map, path)

    def logits(images: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(session.run(None, {"images": images.contiguous().numpy()})[0])

    return logits, card


@contextlib.contextmanager
def _quiet() -> Any:
    """Silences torch.onnx, which prints its steps and warns of what users cannot change."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), silent():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
