"""Weights between deit_fast, timm and DeiT's code in every direction, and names that other code gives to tensors."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.deit import VisionTransformerDistilled
from torch import nn

from deit_fast.config import ModelConfig, UserError
from deit_fast.model.create import create_model
from deit_fast.model.positions import interpolate_positions
from deit_fast.model.weights import Weights, fit_weights, num_classes_of, weights_of
from deit_fast.train.checkpoint import load_any, save_checkpoint
from tests.model.meta import on_meta
from tests.model.tiny_models import random_images, shuffled

REAL = "deit_small_distilled_patch16_224"
DEPTH = {"depth": 2}  # of 12, which would take half a minute


def _real() -> nn.Module:
    model: nn.Module = timm.create_model(REAL, **DEPTH)
    return model


# the three formats, each written as its own program writes it


def _save_as_deit(path: Path, weights: Weights, average: Weights) -> None:
    options = argparse.Namespace(model=REAL, lr=5e-4)
    torch.save({"model": weights, "model_ema": average, "epoch": 3, "optimizer": {"state": {}}, "args": options}, path)


def _save_as_timm(path: Path, weights: Weights, average: Weights) -> None:
    options = argparse.Namespace(model=REAL, mean=None)
    content = {"epoch": 3, "arch": REAL, "state_dict": weights, "state_dict_ema": average, "args": options, "version": 2}
    torch.save(content, path)


def _save_as_ours(path: Path, weights: Weights, average: Weights, *, best: str = "model", **more: Any) -> None:
    content: dict[str, Any] = {
        "architecture": {"name": REAL, "options": DEPTH, "blurpool": False},
        "num_classes": 1000,
        "classes": None,
        "view": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
        "state_dict": weights,
        "model": weights,
        "state_dict_ema": average,
        "model_ema": average,
        "best_weights": best,
        **more,
    }
    save_checkpoint(path, content)


SAVE: dict[str, Callable[[Path, Weights, Weights], None]] = {
    "deit.pth": _save_as_deit,
    "timm.pth.tar": _save_as_timm,
    "ours.pt": _save_as_ours,
    "hub.safetensors": lambda path, weights, average: save_file(weights, path),
    "bare.pth": lambda path, weights, average: torch.save(weights, path),
}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor, torch.Tensor]:
    """A folder with DeiT-S distilled in every format, the logits of its weights, and those of their average."""
    folder = tmp_path_factory.mktemp("real")
    model = shuffled(_real(), 0)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        logits = model(random_images(224))
        average = shuffled(model, 1).state_dict()
        average_logits = model(random_images(224))
    assert not torch.allclose(logits, average_logits)
    for name, save in SAVE.items():
        save(folder / name, weights, average)
    return folder, logits, average_logits


@pytest.mark.parametrize("name", SAVE)
def test_into_deit_fast(real: tuple[Path, torch.Tensor, torch.Tensor], name: str) -> None:
    folder, logits, average_logits = real
    content = load_any(folder / name)
    model = create_model(ModelConfig(name=REAL, options=DEPTH), num_classes=1000, resolution=224).eval()
    assert fit_weights(model, weights_of(content, "auto", path=name), path=name) == []
    with torch.no_grad():
        assert torch.equal(model(random_images(224)), logits)
        if name in ("deit.pth", "timm.pth.tar", "ours.pt"):
            assert fit_weights(model, weights_of(content, "ema", path=name), path=name) == []
            assert torch.equal(model(random_images(224)), average_logits)


@pytest.mark.parametrize("name", SAVE)
def test_from_deit_fast_into_timm_and_deits_code(
    real: tuple[Path, torch.Tensor, torch.Tensor], name: str, tmp_path: Path
) -> None:
    """What came in from anywhere goes out as a checkpoint of ours, which the other two read as they read their own."""
    folder, logits, _ = real
    model = create_model(ModelConfig(name=REAL, options=DEPTH), num_classes=1000, resolution=224).eval()
    fit_weights(model, weights_of(load_any(folder / name), "model", path=name), path=name)
    save_checkpoint(tmp_path / "ours.pt", {"state_dict": model.state_dict(), "model": model.state_dict()})
    theirs = timm.create_model(REAL, **DEPTH, checkpoint_path=str(tmp_path / "ours.pt")).eval()
    originals = _real().eval()
    originals.load_state_dict(torch.load(tmp_path / "ours.pt", weights_only=True)["model"])
    assert isinstance(originals, VisionTransformerDistilled)
    with torch.no_grad():
        assert torch.equal(theirs(random_images(224)), logits)
        assert torch.equal(originals(random_images(224)), logits)


def _weights(value: float) -> Weights:
    return {"weight": torch.full((2,), value)}


@pytest.mark.parametrize(("best", "which", "wanted"), [("ema", "auto", 2.0), ("model", "auto", 1.0), ("ema", "model", 1.0)])
def test_the_better_weights_of_ours(tmp_path: Path, best: str, which: str, wanted: float) -> None:
    _save_as_ours(tmp_path / "a.pt", _weights(1.0), _weights(2.0), best=best)
    assert weights_of(load_any(tmp_path / "a.pt"), which, path="a.pt")["weight"][0] == wanted


def test_auto_of_others_is_the_model() -> None:
    content = {"state_dict": _weights(1.0), "state_dict_ema": _weights(2.0)}
    assert weights_of(content, "auto", path="a.pt")["weight"][0] == 1.0


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "_orig_mod.module.", "module._orig_mod."])
def test_prefixes_of_wrappers(prefix: str) -> None:
    content = {"model": {f"{prefix}{name}": value for name, value in _weights(1.0).items()}}
    assert list(weights_of(content, "model", path="a.pt")) == ["weight"]


@pytest.mark.parametrize(
    "content", [{"model": _weights(1.0)}, _weights(1.0), {"state_dict": _weights(1.0), "state_dict_ema": None}]
)
def test_no_average(content: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"weights a\.pt: hold no moving average; want the weights auto or model"):
        weights_of(content, "ema", path="a.pt")


@pytest.mark.parametrize(
    ("content", "held"),
    [
        ({}, "nothing"),
        ({"epoch": 3, "optimizer": {}}, "epoch, optimizer"),
        ({"model": {"a": 1}}, "model"),
        ({"model": {}}, "model"),
        ({1: torch.zeros(2)}, "1"),
    ],
)
def test_no_weights(content: dict[str, Any], held: str) -> None:
    with pytest.raises(UserError, match=rf"weights a\.pt: want a dictionary of tensors.* got one that holds {held}$"):
        weights_of(content, "auto", path="a.pt")


def test_names_of_deit_iiis_own_code() -> None:
    options = {"embed_dim": 24, "depth": 2, "num_heads": 2}
    config = ModelConfig(name="deit3_small_patch16_224", drop_path=0.0, options=options)
    source, model = (create_model(config, num_classes=5, resolution=side).eval() for side in (64, 96))
    weights = shuffled(source, 0).state_dict()
    original = {name.replace(".ls1.gamma", ".gamma_1").replace(".ls2.gamma", ".gamma_2"): weights[name] for name in weights}
    assert original.keys() != weights.keys()
    assert fit_weights(model, original, path="a.pt") == ["positions 4x4 -> 6x6"]
    assert torch.equal(model.state_dict()["blocks.1.ls2.gamma"], weights["blocks.1.ls2.gamma"])
    # as DeiT's code interpolates them, not as timm would
    assert torch.equal(model.state_dict()["pos_embed"], interpolate_positions(weights["pos_embed"], 0, (4, 4), (6, 6)))


def test_torchvisions_names_of_a_regnet() -> None:
    """timm's own function knows them; the head counts as the head."""
    source = create_model(ModelConfig(name="regnety_002", drop_path=0.0), num_classes=5, resolution=32)
    renames = {"stem.conv.": "stem.0.", "stem.bn.": "stem.1.", "head.fc.": "fc."}
    weights = {}
    for name, value in source.state_dict().items():
        for ours, theirs in renames.items():
            name = name.replace(ours, theirs) if name.startswith(ours) else name
        weights[name] = value
    model = create_model(ModelConfig(name="regnety_002", drop_path=0.0), num_classes=5, resolution=32)
    assert num_classes_of(model, weights, path="a.pt") == 5
    assert fit_weights(model, weights, path="a.pt") == []
    assert torch.equal(model.state_dict()["stem.conv.weight"], source.state_dict()["stem.conv.weight"])


def test_original_teacher_and_blurred_resnet(tmp_path: Path) -> None:
    """DeiT's file of the RegNetY-16GF holds timm's names under `model`; BlurPool changes no names."""
    with on_meta():
        names = timm.create_model("regnety_160").state_dict()
    assert {"stem.conv.weight", "s1.b1.conv1.bn.weight", "s4.b1.se.fc1.weight", "head.fc.weight"} <= names.keys()
    for name, blurpool in (("regnety_002", False), ("resnet18", True)):
        config = ModelConfig(name=name, drop_path=0.0, blurpool=blurpool)
        source, model = (create_model(config, num_classes=5, resolution=32) for _ in range(2))
        torch.save({"model": shuffled(source, 0).state_dict()}, tmp_path / "teacher.pth")
        weights = weights_of(load_any(tmp_path / "teacher.pth"), "auto", path="teacher.pth")
        assert fit_weights(model.eval(), weights, path="teacher.pth") == []
        assert torch.equal(model(random_images()), source(random_images()))
