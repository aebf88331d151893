"""Simple ViT: positions and first weights against big_vision's formulas in NumPy, the forward pass against a plain one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from deit_fast.config import ModelConfig, UserError
from deit_fast.model.create import create_model, num_parameters
from deit_fast.model.simple_vit import sincos_positions

NAME = "simple_vit_small_patch16_224"
TINY = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}


def _model(resolution: int = 32, **options: Any) -> Any:
    torch.manual_seed(0)
    config = ModelConfig(name=NAME, options=options or TINY, drop_path=0.0)
    return create_model(config, num_classes=10, resolution=resolution)


@pytest.mark.parametrize(("height", "width"), [(14, 14), (2, 5)])
def test_positions_are_those_of_moco_v3(height: int, width: int) -> None:
    y, x = np.mgrid[:height, :width]
    omega = 1 / 10_000 ** (np.arange(96) / 95)
    angles_y, angles_x = (np.outer(of.flatten(), omega) for of in (y, x))
    wanted = np.concatenate([np.sin(angles_x), np.cos(angles_x), np.sin(angles_y), np.cos(angles_y)], axis=1)
    np.testing.assert_allclose(sincos_positions(height, width, 384)[0].numpy(), wanted, atol=1e-5)
    with pytest.raises(ValueError, match="embed_dim=30: want a multiple of 4"):
        sincos_positions(2, 2, 30)


def test_first_weights_are_big_visions() -> None:
    torch.manual_seed(0)
    model: Any = create_model(ModelConfig(name=NAME), num_classes=1000, resolution=224)
    assert not model.head.weight.any()
    assert not model.head.bias.any()
    patches = model.patch_embed.proj.weight
    assert patches.std().item() == pytest.approx((3 * 16 * 16) ** -0.5, rel=0.01)  # LeCun: 1 / sqrt of the inputs
    for block in model.blocks:
        queries, keys, values = block.attn.qkv.weight.chunk(3)
        for matrix in (queries, keys, values, block.attn.proj.weight, block.mlp.fc1.weight, block.mlp.fc2.weight):
            limit = (6 / sum(matrix.shape)) ** 0.5
            assert matrix.abs().max().item() == pytest.approx(limit, rel=1e-3)
            assert matrix.std().item() == pytest.approx(limit / 3**0.5, rel=0.01)
        assert not block.attn.qkv.bias.any()
        assert block.mlp.fc1.bias.std().item() == pytest.approx(1e-6, rel=0.1)


def test_parameters_are_those_of_the_formula() -> None:
    torch.manual_seed(0)
    model = create_model(ModelConfig(name=NAME), num_classes=1000, resolution=224)
    block = 2 * 2 * 384 + 4 * (384 * 384 + 384) + 2 * 4 * 384 * 384 + 5 * 384
    assert num_parameters(model) == 768 * 384 + 384 + 12 * block + 2 * 384 + 384 * 1000 + 1000


@torch.no_grad()
def test_logits_are_those_of_the_formula() -> None:
    model = _model(**TINY).eval()
    torch.nn.init.normal_(model.head.weight)
    images = torch.randn(3, 3, 40, 32)  # another grid than the model's
    x = F.conv2d(images, model.patch_embed.proj.weight, model.patch_embed.proj.bias, stride=8)
    x = x.flatten(2).transpose(1, 2) + sincos_positions(5, 4, 24)
    for block in model.blocks:
        y = F.layer_norm(x, (24,), block.norm1.weight, block.norm1.bias, 1e-6)
        heads = F.linear(y, block.attn.qkv.weight, block.attn.qkv.bias).reshape(3, 20, 3, 2, 12).permute(2, 0, 3, 1, 4)
        attended = (heads[0] @ heads[1].transpose(2, 3) / 12**0.5).softmax(3) @ heads[2]
        x = x + F.linear(attended.transpose(1, 2).flatten(2), block.attn.proj.weight, block.attn.proj.bias)
        y = F.layer_norm(x, (24,), block.norm2.weight, block.norm2.bias, 1e-6)
        hidden = F.gelu(F.linear(y, block.mlp.fc1.weight, block.mlp.fc1.bias), approximate="tanh")
        x = x + F.linear(hidden, block.mlp.fc2.weight, block.mlp.fc2.bias)
    x = F.layer_norm(x, (24,), model.norm.weight, model.norm.bias, 1e-6).mean(1)
    torch.testing.assert_close(model(images), F.linear(x, model.head.weight, model.head.bias), rtol=1e-4, atol=1e-5)


def test_options_of_the_kind_cannot_be_changed() -> None:
    with pytest.raises(UserError, match=rf"model\.name={NAME}: timm cannot build it with .*class_token"):
        _model(**TINY, class_token=True)
