"""The hMLP stem: masks commute with it, and what is done to other models can be done to one that has it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from timm.layers import LayerNorm2d
from torch import nn

from deit_fast.config import ModelConfig, UserError
from deit_fast.model.create import create_model
from deit_fast.model.hmlp import HMLPStem
from deit_fast.model.parts import freeze_except
from deit_fast.model.patches import LinearPatches, use_linear_patches
from deit_fast.model.weights import fit_weights

TINY = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "embed_layer": "hmlp"}


def _stem(**options: Any) -> HMLPStem:
    """A stem of 4x4 patches whose normalisations have seen images."""
    torch.manual_seed(0)
    stem = HMLPStem(64, 16, embed_dim=24, **options).double().train()
    for _ in range(3):
        stem(torch.randn(4, 3, 64, 64, dtype=torch.float64))
    return stem.eval()


def _masked(images: torch.Tensor, is_masked: torch.Tensor, filling: torch.Tensor) -> torch.Tensor:
    """Images (B, 3, 64, 64) with the pixels of masked patches (B, 16) from others."""
    pixels = is_masked.view(-1, 1, 4, 4).repeat_interleave(16, 2).repeat_interleave(16, 3)
    return torch.where(pixels, filling, images)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("options", [{}, {"norm_layer": LayerNorm2d}, {"bias": False}])
def test_masking_before_the_stem_is_masking_after_it(seed: int, options: dict[str, Any]) -> None:
    """Whatever lies under the mask: zeros, noise, another image."""
    stem, generator = _stem(**options), torch.Generator().manual_seed(seed)
    images, noise = torch.randn(2, 5, 3, 64, 64, generator=generator, dtype=torch.float64)
    is_masked = torch.rand(5, 16, generator=generator) < 0.6
    mask_token = torch.randn(24, generator=generator, dtype=torch.float64)
    after = torch.where(is_masked[..., None], mask_token, stem(images))
    for filling in (torch.zeros_like(images), noise):
        before = stem(_masked(images, is_masked, filling))
        assert not torch.allclose(before[is_masked], stem(images)[is_masked])
        torch.testing.assert_close(torch.where(is_masked[..., None], mask_token, before), after, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("norm_layer", "commutes"), [(LayerNorm2d, True), (nn.BatchNorm2d, False)])
def test_statistics_of_a_batch_in_training(norm_layer: type[nn.Module], commutes: bool) -> None:
    stem = _stem(norm_layer=norm_layer).train()
    images = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    is_masked = torch.arange(16).expand(2, 16) < 8
    shown = stem(images)[~is_masked]
    assert torch.allclose(stem(_masked(images, is_masked, torch.zeros_like(images)))[~is_masked], shown) == commutes


def test_a_patch_is_embedded_as_if_it_were_an_image() -> None:
    stem = _stem()
    images = torch.randn(1, 3, 64, 64, dtype=torch.float64)
    alone = copy.deepcopy(stem)
    alone.set_input_size(img_size=16)
    torch.testing.assert_close(stem(images)[:, 6], alone(images[..., 16:32, 32:48])[:, 0], rtol=0, atol=1e-12)


@pytest.mark.parametrize(("patch", "width"), [(14, 24), (16, 30)])
def test_sizes_that_do_not_divide(patch: int, width: int) -> None:
    with pytest.raises(UserError, match=rf"hMLP stem: patch_size={patch}, embed_dim={width}: want multiples of 4$"):
        options = {**TINY, "patch_size": patch, "embed_dim": width}
        create_model(ModelConfig(name="deit_tiny_patch16_224", options=options), num_classes=5, resolution=4 * patch)


def _model(name: str = "deit_tiny_patch16_224", num_classes: int = 5, resolution: int = 32, **options: Any) -> Any:
    torch.manual_seed(0)
    config = ModelConfig(name=name, drop_path=0.0, options={**TINY, **options})
    return create_model(config, num_classes=num_classes, resolution=resolution).eval()


def test_the_normalisation_is_an_option() -> None:
    norms = [
        module for module in _model(embed_norm_layer="layernorm2d").patch_embed.modules() if isinstance(module, nn.LayerNorm)
    ]
    assert len(norms) == 3


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "deit3_small_patch16_224", "vit_base_patch16_224"])
def test_other_resolutions_and_classes(name: str) -> None:
    source = _model(name)
    model = _model(name, num_classes=7, resolution=48)
    heads = "head and head_dist" if "distilled" in name else "head"
    assert fit_weights(model, source.state_dict(), path="a.pt") == ["positions 4x4 -> 6x6", f"new {heads} for 7 classes"]
    patch = torch.randn(2, 3, 48, 48)
    torch.testing.assert_close(model.patch_embed(patch)[:, 0], source.patch_embed(patch[..., :32, :32])[:, 0])


def test_linear_patches_take_the_first_layer() -> None:
    model = _model()
    changed = copy.deepcopy(model)
    use_linear_patches(changed)
    assert [type(layer) is LinearPatches for layer in changed.patch_embed.proj] == [True] + [False] * 7
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(changed(images), model(images), rtol=1e-4, atol=1e-5)


def test_what_trains() -> None:
    model = _model()
    freeze_except(model, "attention")
    assert not any(parameter.requires_grad for parameter in model.patch_embed.parameters())
    freeze_except(model, "norms")
    trained = {name for name, parameter in model.patch_embed.named_parameters() if parameter.requires_grad}
    assert trained == {f"proj.{layer}.{part}" for layer in (1, 4, 7) for part in ("weight", "bias")}
