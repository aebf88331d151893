"""Patches left out of training views: which tokens stay, which models can do it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.layers import PatchDropout

from deit_fast.config import ModelConfig, UserError
from deit_fast.model.create import create_model
from deit_fast.model.patch_dropout import patch_dropouts, show_patches

TINY = {"patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2}


def _model(name: str, rate: float = 0.5, **options: Any) -> Any:
    torch.manual_seed(0)
    return create_model(ModelConfig(name=name, options=options or TINY, patch_dropout=rate), num_classes=10, resolution=32)


@pytest.mark.parametrize(("name", "num_prefix_tokens"), [("deit_tiny_patch16_224", 1), ("deit_tiny_distilled_patch16_224", 2)])
def test_tokens_before_the_patches_stay_and_half_of_the_patches(name: str, num_prefix_tokens: int) -> None:
    (module,) = patch_dropouts(_model(name))
    assert isinstance(module, PatchDropout)
    tokens = torch.arange(num_prefix_tokens + 16.0).reshape(1, -1, 1).repeat(200, 1, 3)
    kept = module(tokens)
    assert kept.shape == (200, num_prefix_tokens + 8, 3)
    assert torch.equal(kept[:, :num_prefix_tokens], tokens[:, :num_prefix_tokens])
    patches = kept[:, num_prefix_tokens:, 0]
    assert all(len(set(view.tolist())) == 8 for view in patches)  # none twice
    counts = torch.bincount(patches.flatten().long(), minlength=num_prefix_tokens + 16)[num_prefix_tokens:]
    assert (counts > 60).all()  # of 100 expected of each patch, in 200 views
    assert (counts < 140).all()


def test_all_patches_are_seen_again_and_in_evaluation() -> None:
    model, plain = _model("deit_tiny_patch16_224"), _model("deit_tiny_patch16_224", rate=0.0)
    images = torch.randn(2, 3, 32, 32)
    modules = patch_dropouts(model)
    assert not torch.equal(model(images), plain(images))
    show_patches(modules, all_of_them=True)
    assert torch.equal(model(images), plain(images))
    show_patches(modules, all_of_them=False)
    assert not torch.equal(model(images), plain(images))
    assert torch.equal(model.eval()(images), plain.eval()(images))


def test_rotary_positions_follow_their_patches() -> None:
    options = {"patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2, "img_size": 32}
    model = _model("eva02_tiny_patch14_224", **options)
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 10)
    assert model.patch_drop.num_prefix_tokens == model.num_prefix_tokens


@pytest.mark.parametrize("name", ["resnet18", "cait_xxs24_224", "swin_tiny_patch4_window7_224", "resmlp_12_224"])
def test_others_are_refused(name: str) -> None:
    config = ModelConfig(name=name, patch_dropout=0.5)
    with pytest.raises(UserError, match=rf"model\.patch_dropout=0\.5: timm's {name} cannot leave patches out; want 0"):
        create_model(config, num_classes=10, resolution=224)
