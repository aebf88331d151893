"""Sections of commands that use a trained model: export and predict."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deit_fast.config.options import AT_LEAST_1, Decides, Options, option, path_option


@dataclass(frozen=True)
class ExportConfig(Options):
    """A trained model as files for other programs, with class names and preprocessing."""

    DECIDES = Decides.NOTHING

    checkpoint: str = path_option("", "checkpoint to export; if deit_fast did not write it, set model.name too")
    safetensors: str = path_option("", "safetensors file to write: weights by timm's names", unset="off")
    timm: str = path_option(
        "", "folder to write, which timm.create_model('local-dir:FOLDER', pretrained=True) loads", unset="off"
    )
    onnx: str = path_option("", "ONNX file to write; needs the packages of deit_fast[onnx]", unset="off")
    pt2: str = path_option("", "file of torch.export to write, such as model.pt2", unset="off")


@dataclass(frozen=True)
class PredictConfig(Options):
    """Classes of images by a trained model."""

    DECIDES = Decides.NOTHING

    model: str = path_option(
        "", "checkpoint, or what `export` wrote: safetensors, timm's folder, ONNX or pt2; other weights need model.name"
    )
    images: tuple[str, ...] = path_option(
        (), "image files, folders (with all in them), betons, or patterns of these (*, ?, **)"
    )
    top: int = option(5, "number of classes to give for each image, the likeliest first", within=AT_LEAST_1)
    csv: str = path_option("", "CSV file to write, a row for each image", unset="off")
    on_error: Literal["skip", "fail"] = option(
        "skip",
        "files that do not decode are named, and all others classified; skip: the command succeeds; fail: it ends with status "
        "2 and writes no file",
    )
