"""Which parameters train: counted by hand for DeiT and what grew out of it, and a ResNet."""

from typing import Any

import pytest
import torch

from deit_fast.config import ModelConfig, UserError
from deit_fast.model.create import create_model
from deit_fast.model.parts import freeze_except
from tests.model.meta import on_meta


def _trainable(name: str, trains: str, **options: Any) -> set[str]:
    with on_meta():
        model = create_model(ModelConfig(name=name, options=options), num_classes=5, resolution=224)
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


def _of(*layers: str) -> set[str]:
    return {f"{layer}.{parameter}" for layer in layers for parameter in ("weight", "bias")}


def _by_deits_rule(name: str, **options: Any) -> set[str]:
    """What DeiT's main.py trains with --attn-only: by the names of timm's models, which are those of its own."""
    with on_meta():
        model = create_model(ModelConfig(name=name, options=options), num_classes=5, resolution=224)
    return {key for key, _ in model.named_parameters() if ".attn." in key or key in (*HEAD, "pos_embed")}


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "deit_tiny_patch16_LS"])
def test_attention(name: str) -> None:
    """The distillation head stays as it is."""
    layers = _of(*(f"blocks.{block}.attn.{layer}" for block in range(12) for layer in ("qkv", "proj")))
    assert _trainable(name, "attention") == layers | HEAD | {"pos_embed"} == _by_deits_rule(name)


def test_attention_of_cait() -> None:
    among_patches = [f"blocks.{i}.attn.{layer}" for i in range(24) for layer in ("qkv", "proj_l", "proj_w", "proj")]
    of_token = [f"blocks_token_only.{i}.attn.{layer}" for i in range(2) for layer in ("q", "k", "v", "proj")]
    wanted = _of(*among_patches, *of_token) | HEAD | {"pos_embed"}
    assert _trainable("cait_xxs24_224", "attention") == wanted == _by_deits_rule("cait_xxs24_224")


def test_attention_of_parallel_blocks() -> None:
    """Both of a pair, where DeiT's code calls the second attn1, and leaves it."""
    layers = [f"blocks.{i}.attns.{j}.attn.{layer}" for i in range(18) for j in range(2) for layer in ("qkv", "proj")]
    assert _trainable("deit_small_patch16_18x2", "attention") == _of(*layers) | HEAD | {"pos_embed"}


def test_attention_with_an_hmlp_stem() -> None:
    assert _trainable("deit_tiny_patch16_LS", "attention", embed_layer="hmlp") == _trainable(
        "deit_tiny_patch16_LS", "attention"
    )


@pytest.mark.parametrize(("name", "queries"), [("S60", set()), ("S60_multi", {"head.queries"})])
def test_parts_of_patchconvnet(name: str, queries: set[str]) -> None:
    """The attention that pools; the columns of convolutions, which DeiT's code calls attn.qkv_pos, are none."""
    head = HEAD | queries
    assert _trainable(name, "head", depth=2) == head
    assert _trainable(name, "attention", depth=2) == _of(*(f"pool.attn.{layer}" for layer in ("q", "k", "v", "proj"))) | head
    norms = ("blocks.0.norm", "blocks.1.norm", "pool.norm1", "pool.norm2", "norm")
    assert _trainable(name, "norms", depth=2) == _of(*norms) | head


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
