"""Names and files of DeiT's own code: sizes counted by hand, and logits by the formulas of its blocks."""

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from deit_fast.config import ModelConfig, UserError
from deit_fast.model.create import create_model, has_fixed_resolution, num_parameters
from deit_fast.model.names import NAMES_OF_DEIT, stated, timm_model
from deit_fast.model.weights import fit_weights, num_classes_of, weights_of
from tests.model.meta import on_meta

# width, depth, parallel branches, side of a patch, LayerScale: from models_v2.py
SIZES = {
    "deit_tiny_patch16_LS": (192, 12, 1, 16, True),
    "deit_small_patch16_LS": (384, 12, 1, 16, True),
    "deit_Giant_48x2_patch14_LS": (1664, 48, 2, 14, True),
    "deit_small_patch16_36": (384, 36, 1, 16, False),
    "deit_small_patch16_18x2": (384, 18, 2, 16, False),
}


def _numbers(width: int, depth: int, branches: int, patch: int, scales: bool) -> int:
    """Parameters of a ViT of models_v2.py for 1000 classes at 224 pixels: the class token has no position."""
    block = 12 * width**2 + 13 * width + 2 * width * scales
    embedding = 3 * patch**2 * width + width + (224 // patch) ** 2 * width + width
    return depth * branches * block + embedding + 2 * width + 1000 * (width + 1)


@pytest.mark.parametrize("name", SIZES)
def test_sizes_of_deits_names(name: str) -> None:
    with on_meta():
        model = create_model(ModelConfig(name=name), num_classes=1000, resolution=224)
    assert num_parameters(model) == _numbers(*SIZES[name])


def test_layer_scale_begins_as_in_deits_code() -> None:
    model = create_model(ModelConfig(name="deit_tiny_patch16_LS", options={"depth": 1}), num_classes=5, resolution=32)
    assert model.state_dict()["blocks.0.ls1.gamma"].unique().tolist() == pytest.approx([1e-4])


def test_all_names_are_models_of_timm() -> None:
    assert all(timm.is_model(timm_model(name)[0]) for name in NAMES_OF_DEIT)
    assert not any(timm.is_model(name) for name in NAMES_OF_DEIT)
    assert has_fixed_resolution("deit_base_patch16_18x2")
    assert stated("cait_M48").input_size == (3, 448, 448)
    with pytest.raises(UserError, match=r"model\.name=deit_small_patch16_L: .*deit_small_patch16_LS"):
        timm_model("deit_small_patch16_L")


WIDTH, HEADS, CLASSES = 24, 2, 5


def _file(branches: int, scales: bool, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Random weights by the names of models_v2.py: two blocks, patches of 16 pixels in a grid of 2x2."""
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, WIDTH), "pos_embed": (1, 4, WIDTH), "patch_embed.proj.weight": (WIDTH, 3, 16, 16),
        "patch_embed.proj.bias": (WIDTH,), "norm.weight": (WIDTH,), "norm.bias": (WIDTH,),
        "head.weight": (CLASSES, WIDTH), "head.bias": (CLASSES,),
    }  # fmt: skip
    layers = {
        "qkv": (3 * WIDTH, WIDTH), "proj": (WIDTH, WIDTH), "fc1": (4 * WIDTH, WIDTH), "fc2": (WIDTH, 4 * WIDTH)
    }  # fmt: skip
    for block in ("blocks.0.", "blocks.1."):
        for second in ("", "1")[:branches]:
            for norm in ("norm1", "norm2"):
                shapes |= {f"{block}{norm}{second}.{part}": (WIDTH,) for part in ("weight", "bias")}
            for module, parts in (("attn", ("qkv", "proj")), ("mlp", ("fc1", "fc2"))):
                for part in parts:
                    shapes[f"{block}{module}{second}.{part}.weight"] = layers[part]
                    shapes[f"{block}{module}{second}.{part}.bias"] = layers[part][:1]
            if scales:
                shapes |= {f"{block}gamma_{number}{'_1' if second else ''}": (WIDTH,) for number in (1, 2)}
    return {name: 0.3 * torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def _logits(weights: dict[str, torch.Tensor], branches: int, images: torch.Tensor) -> torch.Tensor:
    """The forward pass of models_v2.py: the branches of a block see the same tokens, and what they give is added."""

    def norm(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.layer_norm(x, (WIDTH,), weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-6)

    def linear(name: str, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

    def attention(name: str, x: torch.Tensor) -> torch.Tensor:
        q, k, v = linear(f"{name}.qkv", x).unflatten(2, (3, HEADS, WIDTH // HEADS)).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(2, 3) * (WIDTH // HEADS) ** -0.5).softmax(3)
        return linear(f"{name}.proj", (scores @ v).transpose(1, 2).flatten(2))

    def mlp(name: str, x: torch.Tensor) -> torch.Tensor:
        return linear(f"{name}.fc2", F.gelu(linear(f"{name}.fc1", x)))

    patches = F.conv2d(images, weights["patch_embed.proj.weight"], weights["patch_embed.proj.bias"], stride=16)
    tokens = patches.flatten(2).transpose(1, 2) + weights["pos_embed"]
    x = torch.cat([weights["cls_token"].expand(len(images), -1, -1), tokens], dim=1)
    seconds = ("", "1")[:branches]
    for block in ("blocks.0.", "blocks.1."):
        for number, part, name in ((1, attention, "attn"), (2, mlp, "mlp")):
            scale = [weights.get(f"{block}gamma_{number}{'_1' if second else ''}", torch.ones(())) for second in seconds]
            x = x + sum(
                gamma * part(f"{block}{name}{second}", norm(f"{block}norm{number}{second}", x))
                for gamma, second in zip(scale, seconds, strict=True)
            )
    return linear("head", norm("norm", x)[:, 0])


@pytest.mark.parametrize(
    ("name", "branches", "scales"),
    [
        ("deit_small_patch16_LS", 1, True),
        ("deit_small_patch16_36", 1, False),
        ("deit_small_patch16_18x2_LS", 2, True),
        ("deit_base_patch16_18x2", 2, False),
    ],
)
def test_files_of_deits_code(name: str, branches: int, scales: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    weights = _file(branches, scales, generator)
    images = torch.randn(2, 3, 32, 32, generator=generator)
    options = {"embed_dim": WIDTH, "num_heads": HEADS, "depth": 2}
    model: nn.Module = create_model(ModelConfig(name=name, options=options), num_classes=CLASSES, resolution=32).eval()
    found = weights_of({"model": weights, "epoch": 799}, "auto", path="deit_3.pth")
    assert num_classes_of(model, found, path="deit_3.pth") == CLASSES
    assert fit_weights(model, found, path="deit_3.pth") == []
    with torch.no_grad():
        torch.testing.assert_close(model(images), _logits(weights, branches, images), atol=1e-4, rtol=1e-4)
