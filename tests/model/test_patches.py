"""Patches embedded by a linear layer: the convolution's numbers, gradients and state dict, in every layout and precision."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
import torch
from torch import nn

from deit_fast.benchmarks.step import Operators
from deit_fast.config import UserError
from deit_fast.model.memory_format import to_channels_last
from deit_fast.model.patches import LinearPatches, use_linear_patches
from tests.tiny_runs import TINY


def _pair(convolution: nn.Conv2d, is_channels_last: bool = True) -> tuple[nn.Conv2d, nn.Conv2d]:
    """A convolution, and its copy computed as a linear layer."""
    if is_channels_last:
        to_channels_last(convolution)
    linear = copy.deepcopy(convolution)
    use_linear_patches(nn.Sequential(linear))
    assert type(linear) is LinearPatches
    return convolution, linear


@pytest.mark.parametrize("is_channels_last", [True, False])
@pytest.mark.parametrize("side", [32, 37])  # 37: the convolution leaves out the last pixels
def test_values_and_gradients_are_the_convolutions(is_channels_last: bool, side: int) -> None:
    torch.manual_seed(0)
    convolution, linear = _pair(nn.Conv2d(3, 24, (8, 4), (8, 4)), is_channels_last)
    images = torch.randn(2, 3, side, side)
    if is_channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    ends = []
    for module in (convolution, linear):
        shown = images.clone(memory_format=torch.preserve_format).requires_grad_()
        embedded = module(shown)
        (embedded * torch.linspace(-1, 1, embedded.numel()).view(embedded.shape)).sum().backward()
        assert module.weight.grad is not None and module.bias is not None
        assert module.weight.grad.stride() == module.weight.stride()  # as fused optimisers want it
        ends.append((embedded, shown.grad, module.weight.grad, module.bias.grad))
    for wanted, got in zip(*ends, strict=True):
        assert wanted is not None and got is not None
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)


def test_each_patch_alone_in_float64() -> None:
    """Patch by patch, written out."""
    torch.manual_seed(0)
    _, linear = _pair(nn.Conv2d(3, 5, 4, 4).double())
    images = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    embedded = linear(images)
    assert linear.bias is not None
    for row in range(2):
        for column in range(3):
            patch = images[:, :, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            wanted = (patch[:, None] * linear.weight).sum((2, 3, 4)) + linear.bias
            torch.testing.assert_close(embedded[:, :, row, column], wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_autocast_rounds_images_and_weights_first(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    convolution, linear = _pair(nn.Conv2d(3, 24, 8, 8))
    images = torch.randn(2, 3, 32, 32).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wanted, got = convolution(images), linear(images)
    assert got.dtype == wanted.dtype == torch.bfloat16
    torch.testing.assert_close(got, wanted, rtol=2**-7, atol=2**-7)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("deit_tiny_distilled_patch16_224", {**TINY, "img_size": 32}),
        ("swin_tiny_patch4_window7_224", {"embed_dim": 24, "depths": (1, 1), "num_heads": (2, 2), "img_size": 56}),
        ("convnext_atto", {"dims": (8, 8, 8, 8), "depths": (1, 1, 1, 1)}),
    ],
)
def test_a_model_keeps_its_state_dict_and_its_logits(name: str, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=5, **options).eval()
    changed = copy.deepcopy(model)
    use_linear_patches(changed)
    assert sum(type(module) is LinearPatches for module in changed.modules()) == 1
    assert list(changed.state_dict()) == list(model.state_dict())
    model.load_state_dict(changed.state_dict())
    side = options.get("img_size", 64)
    images = torch.randn(2, 3, side, side).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(changed(images), model(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("is_mixed", [False, True])
def test_images_are_copied_once_and_weights_not_at_all(is_mixed: bool) -> None:
    """With autocast the one copy of the images rounds them; the weights are rounded in another."""
    _, linear = _pair(nn.Conv2d(3, 24, 8, 8))
    images = torch.randn(2, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=is_mixed), Operators() as operators:
        linear(images)
    rounded = ["aten::_to_copy"] * 3  # images, weights, bias
    assert operators.names == ([*rounded, "aten::addmm"] if is_mixed else ["aten::clone", "aten::_unsafe_view", "aten::addmm"])


@pytest.mark.parametrize("name", ["resnet18", "pvt_v2_b0"])  # pvt: patches overlap
def test_a_model_without_patches_side_by_side_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"train\.patch_embed=linear: .* no patches; want conv"):
        use_linear_patches(timm.create_model(name, num_classes=5))


def test_compiles_without_a_break() -> None:
    _, linear = _pair(nn.Conv2d(3, 24, 8, 8))
    images = torch.randn(2, 3, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(torch.compile(linear, backend="eager", fullgraph=True)(images), linear(images))
