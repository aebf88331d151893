"""Attention weights are those that the model uses; rollout and similarity of tokens against worked examples and NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.models.cait import ClassAttn
from timm.models.vision_transformer import Attention
from torch import nn

from deit_fast.config import ModelConfig
from deit_fast.looking.attention import attention_maps, rollout
from deit_fast.looking.tokens import TokenSimilarity
from deit_fast.model import patchconvnet
from deit_fast.model.attention import use_float32_attention
from deit_fast.model.create import create_model

SIZES: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 3, "num_heads": 2, "num_classes": 5}


def model_of(name: str, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, **{**SIZES, **options})
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def weights_that_it_uses(model: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """timm's own weights: what it hands to the dropout of attention where it does not leave that to PyTorch's kernel."""
    found: list[torch.Tensor] = []
    for module in model.modules():
        if isinstance(module, Attention | ClassAttn):
            module.fused_attn = False
            module.attn_drop.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    with torch.inference_mode():
        model(images)
    return found


@pytest.mark.parametrize(
    ("name", "options", "num_prefix"),
    [
        ("deit_tiny_patch16_224", {}, 1),
        ("deit_tiny_distilled_patch16_224", {}, 2),
        ("deit3_small_patch16_224", {}, 1),
        ("deit_tiny_patch16_224", {"qk_norm": True}, 1),
        ("cait_xxs24_224", {"depth_token_only": 2}, 1),
    ],
)
def test_weights_are_those_that_the_model_uses(name: str, options: dict[str, Any], num_prefix: int) -> None:
    model, images = model_of(name, **options), torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        before = model(images)
    maps = attention_maps(model, images)
    assert maps is not None
    with torch.inference_mode():
        assert torch.equal(model(images), before)  # nothing is left in it
    wanted = weights_that_it_uses(model, images)
    assert len(maps.layers) == len(wanted) == (2 if name.startswith("cait") else 3)
    for ours, theirs in zip(maps.layers, wanted, strict=True):
        patches = theirs[:, :, 0, num_prefix:].unflatten(2, (4, 4)).numpy()
        np.testing.assert_allclose(ours, patches, rtol=1e-4, atol=1e-7)
        assert ours.shape == (2, 2, 4, 4)
    tokens = {"cait_xxs24_224": [], "deit_tiny_distilled_patch16_224": ["class", "distillation"]}.get(name, ["class"])
    assert list(maps.rollout) == tokens
    total = np.eye(16 + num_prefix)
    for layer in wanted:
        if tokens:
            mixed = 0.5 * layer.double().mean(1).numpy()[1] + 0.5 * np.eye(16 + num_prefix)
            total = mixed / mixed.sum(1, keepdims=True) @ total
    for row, token in enumerate(tokens):
        np.testing.assert_allclose(maps.rollout[token][1].ravel(), total[row, num_prefix:], rtol=1e-4)


@pytest.mark.parametrize("is_multi", [False, True])
def test_the_pooling_of_a_patchconvnet(is_multi: bool) -> None:
    """The shares that the model's own function gives; with a query a class, those of the class which it says."""
    sizes = {"depth": 1, "embed_dim": 16, "num_heads": 2}
    config = ModelConfig(name="S60_multi" if is_multi else "S60", options=sizes, drop_path=0)
    torch.manual_seed(0)
    model: Any = create_model(config, num_classes=5, resolution=32).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    images = torch.randn(3, 3, 32, 32)
    maps = attention_maps(model, images)
    assert maps is not None
    assert (len(maps.layers), maps.layers[0].shape, maps.rollout) == (1, (3, 2, 2, 2), {})
    with torch.inference_mode():
        shares = patchconvnet.attention_maps(model, images).numpy()
        said = model(images).argmax(1).tolist()
    for image, label in enumerate(said):
        np.testing.assert_array_equal(maps.layers[0][image], shares[image, label if is_multi else 0])


def test_attention_in_float32_is_known_too() -> None:
    model = model_of("deit_tiny_patch16_224")
    images = torch.randn(1, 3, 32, 32)
    plain = attention_maps(model, images)
    use_float32_attention(model)
    again = attention_maps(model, images)
    assert plain is not None
    assert again is not None
    np.testing.assert_array_equal(plain.layers[-1], again.layers[-1])


@pytest.mark.parametrize("name", ["resnet10t", "resmlp_12_224", "vit_tiny_patch16_224"])
def test_models_without_a_class_token_have_none(name: str) -> None:
    options = {"global_pool": "avg", "class_token": False} if name.startswith("vit") else {}
    model = timm.create_model(name, num_classes=5, **options).eval()
    side = 224 if name != "resnet10t" else 32
    assert attention_maps(model, torch.zeros(1, 3, side, side)) is None


def test_rollout_of_two_layers_of_two_tokens() -> None:
    """By hand: (A + I) / 2 of the first layer is [[3/4, 1/4], [0, 1]], of the second, by its heads' mean, [[1, 0], [1/4, 3/4]];
    the second times the first."""
    first = torch.tensor([[[[0.5, 0.5], [0.0, 1.0]]] * 2])
    second = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]]])
    wanted = [[[3 / 4, 1 / 4], [3 / 16, 13 / 16]]]
    np.testing.assert_allclose(rollout([first, second]).numpy(), wanted, rtol=1e-6)


class _Turn(nn.Module):
    """A block that puts a multiple of the class token in the place of the distillation token."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return torch.cat([tokens[:, :1], self.factor * tokens[:, :1], tokens[:, 2:]], 1)


def test_cosines_of_tokens_that_are_known() -> None:
    """Orthogonal before the first block, then the same direction, then the opposite one; over batches of 3 and 1 images."""
    model: Any = model_of("deit_tiny_distilled_patch16_224")
    with torch.no_grad():
        for parameter in (model.pos_embed, model.cls_token, model.dist_token):
            parameter.zero_()
        model.cls_token[..., 0] = 2.0
        model.dist_token[..., 1] = 5.0
    model.blocks = nn.Sequential(_Turn(3.0), _Turn(-0.5))
    with TokenSimilarity(model) as tokens, torch.inference_mode():
        for num_images in (3, 1):
            model(torch.randn(num_images, 3, 32, 32))
    assert tokens.cosines == pytest.approx([0.0, 1.0, -1.0])
    model(torch.randn(1, 3, 32, 32))  # outside the block
    assert tokens.cosines == pytest.approx([0.0, 1.0, -1.0])


def test_nothing_is_measured_without_both_tokens() -> None:
    model = model_of("deit_tiny_patch16_224")
    with TokenSimilarity(model) as tokens, torch.inference_mode():
        model(torch.randn(1, 3, 32, 32))
    assert tokens.cosines == []
