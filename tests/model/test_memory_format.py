"""Channels-last models compute what contiguous ones do, those too whose convolutions oneDNN gets wrong."""

import copy

import pytest
import timm
import torch
from torch import nn

from deit_fast.model.memory_format import to_channels_last


def _gradients(model: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad()
    model(images).square().sum().backward()
    return [value.grad.clone() for value in model.parameters() if value.grad is not None]


# of a convolution: channels, groups, stride; 3, 48 and 2 are those of FastViT, which ended the process
@pytest.mark.parametrize(
    ("channels", "groups", "stride"), [(3, 1, 2), (2, 1, 2), (7, 1, 4), (8, 1, 2), (6, 2, 2), (3, 1, (1, 2))]
)
def test_pointwise_convolutions_with_a_stride(channels: int, groups: int, stride: int | tuple[int, int]) -> None:
    torch.manual_seed(0)
    model = nn.Conv2d(channels, 48, 1, stride, groups=groups)
    changed = to_channels_last(copy.deepcopy(model))
    for side in (64, 33, 1):
        for _ in range(10):  # memory that was written past shows later
            images = torch.randn(8, channels, side, side)
            laid_out = images.contiguous(memory_format=torch.channels_last)
            result = changed(laid_out)
            torch.testing.assert_close(result, model(images), rtol=1e-4, atol=1e-5)
            assert result.is_contiguous(memory_format=torch.channels_last)
            for found, wanted in zip(_gradients(changed, laid_out), _gradients(model, images), strict=True):
                torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("name", ["fastvit_t8", "mobileone_s0", "repvgg_a0", "lambda_resnet26t"])
@pytest.mark.slow
def test_models_of_timm(name: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=10).eval()
    changed = to_channels_last(copy.deepcopy(model))
    assert changed.state_dict().keys() == model.state_dict().keys()
    to_channels_last(changed)  # twice is as good as once
    images = torch.randn(4, 3, 64, 64)
    laid_out = images.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(changed(laid_out), model(images), rtol=1e-3, atol=1e-3)
    for found, wanted in zip(_gradients(changed, laid_out), _gradients(model, images), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-2, atol=1e-3 * max(1.0, wanted.abs().max().item()))
