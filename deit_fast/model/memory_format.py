"""Puts a model into channels-last memory format."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

_FEW_CHANNELS = 8


def to_channels_last(model: nn.Module) -> nn.Module:
    """Puts the model's 4-D weights and buffers into channels-last memory format, for images in that format.

    On a CPU, only in this format, PyTorch 2.15's oneDNN writes past its memory in the backward pass of a 1x1 convolution with a
    stride and 2 to 7 input channels, as in the stems of FastViT, MobileOne and RepVGG. These get every stride-th pixel of their
    input and stride 1 instead, which computes the same sums.
    """
    for values in (model.parameters(), model.buffers()):
        for value in values:
            if value.ndim == 4:  # timm's lambda layers have 5-D weights, which Module.to refuses
                value.data = value.data.to(memory_format=torch.channels_last)
    for module in model.modules():
        if type(module) is nn.Conv2d and _writes_past_its_memory(module):
            module.register_forward_pre_hook(partial(_every_pixel_of, module.stride))
            module.stride = (1, 1)
    return model


def _writes_past_its_memory(convolution: nn.Conv2d) -> bool:
    is_pointwise = convolution.kernel_size == (1, 1) and convolution.padding == (0, 0)
    num_channels = convolution.in_channels // convolution.groups
    return convolution.weight.is_cpu and is_pointwise and convolution.stride != (1, 1) and num_channels < _FEW_CHANNELS


def _every_pixel_of(stride: tuple[int, ...], module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    images, *others = inputs
    return images[:, :, :: stride[0], :: stride[1]], *others
