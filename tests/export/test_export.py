"""`deit-fast export`: each format gives the logits of timm's own model, and holds classes and preprocessing."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from deit_fast.config import ModelConfig, RunConfig, UserError
from deit_fast.export import export as exporting
from deit_fast.export.export import export_model
from deit_fast.export.safetensors_file import read_safetensors
from deit_fast.train.checkpoint import load_checkpoint, save_checkpoint
from tests.tiny_runs import TINY, with_options

NAMES = ["ant", "bee", "zebra"]
VIEW = {
    "eval_resolution": 32, "eval_crop_ratio": 0.9, "interpolation": "bilinear",
    "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6],
}  # fmt: skip
SMALL = {"embed_dim": 24, "depth": 2}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT": ("deit_tiny_patch16_224", TINY),
    "DeiT's name": ("deit_small_patch16_LS", {**SMALL, "num_heads": 2}),
    "distilled": ("deit_tiny_distilled_patch16_224", TINY),
    "CaiT": ("cait_xxs24_224", {**SMALL, "num_heads": 2}),
    "ResMLP": ("resmlp_12_224", {}),
    "ResNet": ("test_resnet", {}),
    "PatchConvNet": ("patchconvnet_s60", {"depth": 2, "embed_dim": 48}),
}
Built = Callable[..., tuple[Path, torch.nn.Module]]


@pytest.fixture
def built(tmp_path: Path) -> Built:
    """built(name, options, **architecture): a checkpoint of a random model, and timm's own model of its weights."""

    def build(name: str, options: dict[str, Any], **architecture: Any) -> tuple[Path, torch.nn.Module]:
        torch.manual_seed(0)
        size = {} if name in ("test_resnet", "resnet18", "patchconvnet_s60") else {"img_size": 32}
        own = {"init_values": 1e-4} if name.endswith("_LS") else {}
        timms_name = "deit3_small_patch16_224" if name.endswith("_LS") else name
        model = timm.create_model(timms_name, num_classes=len(NAMES), **size, **own, **options)
        for parameter in model.parameters():  # heads that start at zero would agree whatever came before
            torch.nn.init.normal_(parameter, std=0.2)
        path = tmp_path / "checkpoint.pt"
        config = ModelConfig(name=name, options=options, **architecture)
        content = {
            "architecture": vars(config), "num_classes": len(NAMES), "classes": NAMES, "view": VIEW, "epoch": 4,
            "state_dict": model.state_dict(), "model": model.state_dict(), "best_weights": "model",
        }  # fmt: skip
        save_checkpoint(path, content)
        return path, model.eval()

    return build


def exporting_to(folder: Path, checkpoint: Path, *kinds: str, **changes: Any) -> RunConfig:
    paths = {"safetensors": "m.safetensors", "timm": "folder", "onnx": "m.onnx", "pt2": "m.pt2"}
    outs = {f"export.{kind}": str(folder / paths[kind]) for kind in kinds}
    return with_options({"export.checkpoint": str(checkpoint), **outs, **changes})


def images_of(count: int) -> torch.Tensor:
    return torch.randn(count, 3, 32, 32, generator=torch.Generator().manual_seed(count))


def close(found: torch.Tensor, wanted: torch.Tensor) -> bool:
    return bool((found - wanted).abs().max() <= 1e-4 * max(1.0, float(wanted.abs().max())))


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_every_format_gives_timms_logits(built: Built, tmp_path: Path, family: str) -> None:
    import onnxruntime

    path, model = built(*FAMILIES[family])
    result = export_model(exporting_to(tmp_path, path, "safetensors", "timm", "onnx", "pt2"))
    assert result["num_classes"] == 3
    assert result["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert [file["largest_difference"] for file in result["files"].values()] == pytest.approx([0.0] * 4, abs=1e-4)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    program = torch.export.load(tmp_path / "m.pt2").module()
    loaded = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True).eval()
    for count in (1, 3, 8):
        images = images_of(count)
        wanted = model(images)
        assert close(torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0]), wanted)
        assert close(program(images), wanted)
        assert torch.equal(loaded(images), wanted)
    weights = load_file(tmp_path / "m.safetensors")
    assert weights.keys() == model.state_dict().keys()
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())


@pytest.mark.slow
def test_every_format_holds_classes_and_preprocessing(built: Built, tmp_path: Path) -> None:
    import onnxruntime

    path, _ = built(*FAMILIES["ViT"])
    export_model(exporting_to(tmp_path, path, "safetensors", "timm", "onnx", "pt2"))
    wanted = {
        "architecture": "deit_tiny_patch16_224", "options": TINY, "classes": NAMES, "num_classes": 3, "resolution": 32,
        "crop_ratio": 0.9, "interpolation": "bilinear", "mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "heads": "both",
        "epoch": 4, "weights": "model",
    }  # fmt: skip
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        of_safetensors = file.metadata()
    extra = {"deit_fast.json": ""}
    torch.export.load(tmp_path / "m.pt2", extra_files=extra)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx", providers=["CPUExecutionProvider"])
    for metadata in (of_safetensors, session.get_modelmeta().custom_metadata_map, json.loads(extra["deit_fast.json"])):
        assert {name: json.loads(metadata[name]) for name in wanted} == wanted
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    stated = config["pretrained_cfg"]
    assert (config["architecture"], config["num_classes"], config["label_names"]) == ("deit_tiny_patch16_224", 3, NAMES)
    assert (stated["mean"], stated["std"], stated["input_size"]) == ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6], [3, 32, 32])
    assert (stated["crop_pct"], stated["interpolation"]) == (0.9, "bilinear")
    data = timm.data.resolve_model_data_config(timm.create_model(f"local-dir:{tmp_path / 'folder'}"))
    assert (data["crop_pct"], data["interpolation"], data["input_size"]) == (0.9, "bilinear", (3, 32, 32))


@pytest.mark.parametrize("heads", ["class", "distillation"])
@torch.inference_mode()
def test_one_head_of_a_distilled_model(built: Built, tmp_path: Path, heads: str) -> None:
    path, model = built(*FAMILIES["distilled"])
    images = images_of(4)
    tokens: Any = model.forward_features(images)  # type: ignore[operator]
    wanted: Any = model.head(tokens[:, 0]) if heads == "class" else model.head_dist(tokens[:, 1])  # type: ignore[operator]
    export_model(exporting_to(tmp_path, path, "timm", "pt2", **{"eval.heads": heads}))
    loaded = timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True).eval()
    assert torch.equal(loaded(images), wanted)
    assert close(torch.export.load(tmp_path / "m.pt2").module()(images), wanted)


@torch.inference_mode()
def test_the_papers_fusion(built: Built, tmp_path: Path) -> None:
    path, model = built(*FAMILIES["distilled"])
    images = images_of(4)
    tokens: Any = model.forward_features(images)  # type: ignore[operator]
    both: list[Any] = [model.head(tokens[:, 0]), model.head_dist(tokens[:, 1])]  # type: ignore[operator]
    export_model(exporting_to(tmp_path, path, "pt2", **{"eval.fusion": "paper"}))
    found = torch.export.load(tmp_path / "m.pt2").module()(images)
    torch.testing.assert_close(found.softmax(1), (both[0].softmax(1) + both[1].softmax(1)) / 2)
    with pytest.raises(UserError, match=r"eval\.fusion=paper: timm's folder has the mean .*; want code"):
        export_model(exporting_to(tmp_path, path, "timm", **{"eval.fusion": "paper"}))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["checkpoint.pt", "m.pt2"]


@torch.inference_mode()
def test_options_of_training_do_not_matter(built: Built, tmp_path: Path) -> None:
    """Skipped branches and attention in float32 are layers of our own; what is exported has timm's alone."""
    path, model = built(*FAMILIES["ViT"], drop_path=0.5, drop_path_kind="skip", attention_dtype="float32", dropout=0.1)
    export_model(exporting_to(tmp_path, path, "pt2", "timm"))
    assert close(torch.export.load(tmp_path / "m.pt2").module()(images_of(3)), model(images_of(3)))


@torch.inference_mode()
def test_a_blurred_convnet_is_none_of_timms(built: Built, tmp_path: Path) -> None:
    path, _ = built("resnet18", {"layers": (1, 1, 1, 1)}, blurpool=True)
    export_model(exporting_to(tmp_path, path, "safetensors"))
    trained, card = read_safetensors(tmp_path / "m.safetensors")
    assert card.blurpool
    model = trained.create(32)[0].eval()
    assert any(type(module).__name__ == "BlurConv2d" for module in model.modules())
    with pytest.raises(UserError, match=r"export\.timm: timm builds no model with model\.blurpool"):
        export_model(exporting_to(tmp_path, path, "timm"))


def test_a_file_of_other_code_and_another_resolution(built: Built, tmp_path: Path) -> None:
    _, model = built(*FAMILIES["ViT"])
    weights = tmp_path / "deit.pth"
    torch.save({"model": model.state_dict()}, weights)
    changes = {"model.name": "deit_tiny_patch16_224", "model.options": TINY, "data.eval_resolution": 48}
    export_model(exporting_to(tmp_path, weights, "timm", **changes))
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    assert config["pretrained_cfg"]["input_size"] == [3, 48, 48]
    assert timm.create_model(f"local-dir:{tmp_path / 'folder'}", pretrained=True)(torch.zeros(1, 3, 48, 48)).shape == (1, 3)
    with pytest.raises(UserError, match="do not fit the model"):
        export_model(exporting_to(tmp_path, weights, "timm", **{**changes, "model.options": {**TINY, "depth": 3}}))


def test_a_second_export_takes_the_place_of_the_first(built: Built, tmp_path: Path) -> None:
    path, _ = built(*FAMILIES["ViT"])
    config = exporting_to(tmp_path, path, "timm", "safetensors")
    export_model(config)
    first = (tmp_path / "folder" / "model.safetensors").stat().st_ino
    export_model(config)
    assert (tmp_path / "folder" / "model.safetensors").stat().st_ino != first
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["checkpoint.pt", "folder", "m.safetensors"]
    (tmp_path / "folder" / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match=r"export\.timm=.*folder: holds other files than a model of timm"):
        export_model(config)
    assert (tmp_path / "folder" / "notes.txt").read_text() == "mine"


def test_a_file_whose_logits_differ_gets_no_name(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = built(*FAMILIES["ViT"])
    (tmp_path / "m.safetensors").write_text("an earlier one")
    monkeypatch.setattr(exporting, "_read", lambda kind, path: lambda images: torch.full((len(images), 3), np.nan))
    with pytest.raises(UserError, match=r"export\.safetensors=.*: its logits differ from PyTorch's by inf, more than 0\.0001"):
        export_model(exporting_to(tmp_path, path, "safetensors", "timm"))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["checkpoint.pt", "m.safetensors"]
    assert (tmp_path / "m.safetensors").read_text() == "an earlier one"


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package(built: Built, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    path, _ = built(*FAMILIES["ViT"])
    monkeypatch.setitem(sys.modules, missing, None)
    message = rf"export\.onnx: the package {missing} is not installed: pip install 'deit_fast\[onnx\]'"
    with pytest.raises(UserError, match=message):
        export_model(exporting_to(tmp_path, path, "onnx", "timm"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"export.timm": ""}, r"export: no file to write; want one or more of --export\.safetensors, --export\.timm"),
        ({"export.checkpoint": ""}, r"export\.checkpoint is not set: want a checkpoint"),
        ({"eval.heads": "class"}, r"eval\.heads=class: the model has one head; want both"),
        ({"eval.weights": "ema"}, r"weights .*: hold no moving average"),
        ({"export.onnx": "/no/such/folder/m.onnx"}, r"export\.onnx=.*: /no/such/folder is not a folder"),
        ({"export.pt2": "/"}, r"export\.pt2=/: is a folder; want a file"),
        ({"model.name": "resnet18"}, r"model\.name=resnet18: checkpoint .* holds deit_tiny_patch16_224; leave the option out"),
    ],
)
def test_what_is_refused(built: Built, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path, _ = built(*FAMILIES["ViT"])
    with pytest.raises(UserError, match=message):
        export_model(exporting_to(tmp_path, path, "timm", **changes))
    assert [entry.name for entry in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_the_average_of_the_weights(built: Built, tmp_path: Path) -> None:
    path, model = built(*FAMILIES["ViT"])
    content = load_checkpoint(path)
    average = {name: value + 1 for name, value in model.state_dict().items()}
    del content["format"]
    save_checkpoint(path, {**content, "state_dict_ema": average, "model_ema": average, "best_weights": "ema"})
    for chosen, wanted in (("auto", average), ("ema", average), ("model", model.state_dict())):
        result = export_model(exporting_to(tmp_path, path, "safetensors", **{"eval.weights": chosen}))
        assert result["weights"] == ("model" if chosen == "model" else "ema")
        found = load_file(tmp_path / "m.safetensors")
        assert all(torch.equal(found[name], value) for name, value in wanted.items())
