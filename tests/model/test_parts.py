"""Which parameters train: counted by hand for a DeiT, a CaiT and a ResNet."""

import pytest
import torch

from deit_fast.config import ModelConfig, UserError
from deit_fast.model.create import create_model
from deit_fast.model.parts import freeze_except
from tests.model.meta import on_meta


def _trainable(name: str, trains: str) -> set[str]:
    with on_meta():
        model = create_model(ModelConfig(name=name), num_classes=5, resolution=224)
    model.requires_grad_(False)
    freeze_except(model, trains)
    return {key for key, parameter in model.named_parameters() if parameter.requires_grad}


HEAD = {"head.weight", "head.bias"}
BOTH_HEADS = HEAD | {"head_dist.weight", "head_dist.bias"}


def test_all() -> None:
    assert len(_trainable("deit_tiny_patch16_224", "all")) == 12 * 12 + 8


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("deit_tiny_patch16_224", HEAD),
        ("deit_tiny_distilled_patch16_224", BOTH_HEADS),
        ("resnet18", {"fc.weight", "fc.bias"}),
        ("regnety_160", {"head.fc.weight", "head.fc.bias"}),
    ],
)
def test_head(name: str, wanted: set[str]) -> None:
    assert _trainable(name, "head") == wanted


def test_norms_of_a_vit() -> None:
    norms = {f"blocks.{block}.norm{number}" for block in range(12) for number in (1, 2)} | {"norm"}
    wanted = {f"{norm}.{parameter}" for norm in norms for parameter in ("weight", "bias")} | BOTH_HEADS
    assert _trainable("deit_tiny_distilled_patch16_224", "norms") == wanted


def test_norms_of_a_convnet() -> None:
    names = _trainable("resnet18", "norms") - {"fc.weight", "fc.bias"}
    assert len(names) == 2 * 20  # 17 convolutions and 3 shortcuts, each with its batch normalisation
    assert all(".bn" in f".{name}" or ".downsample.1." in name for name in names)


def test_attention() -> None:
    layers = {f"blocks.{block}.attn.{layer}" for block in range(12) for layer in ("qkv", "proj")}
    wanted = {f"{layer}.{parameter}" for layer in layers for parameter in ("weight", "bias")} | BOTH_HEADS | {"pos_embed"}
    assert _trainable("deit_tiny_distilled_patch16_224", "attention") == wanted


def test_attention_of_cait() -> None:
    names = _trainable("cait_xxs24_224", "attention")
    assert {"blocks_token_only.1.attn.q.weight", "blocks.23.attn.proj_l.weight", "pos_embed", *HEAD} <= names
    assert not any("mlp" in name or "norm" in name for name in names)


@pytest.mark.parametrize(("name", "trains"), [("resnet18", "attention"), ("resmlp_12_224", "norms")])
def test_architecture_without_the_part(name: str, trains: str) -> None:
    with pytest.raises(UserError, match=rf"model\.trains={trains}: \w+ has no {trains}; want all"):
        _trainable(name, trains)


def test_only_what_trains_gets_a_gradient() -> None:
    options = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
    model = create_model(ModelConfig(name="deit_tiny_patch16_224", options=options), num_classes=5, resolution=32)
    freeze_except(model, "head")
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    assert {name for name, parameter in model.named_parameters() if parameter.grad is not None} == HEAD
