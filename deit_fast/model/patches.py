"""Embeds the patches of images by one product of matrices instead of a convolution."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from deit_fast.config import UserError

_IMAGE_CHANNELS = 3


class LinearPatches(nn.Conv2d):
    """A convolution of patches that lie side by side, computed as a linear layer of each; has the convolution's state dict.

    Channels-last images and weights are taken as they lie in memory, where the rows of a patch are runs of numbers. One copy
    puts the rows of each patch together, and rounds them to autocast's dtype on the way.
    """

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        (height, width), device = self.kernel_size, input.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else input.dtype
        num_rows, num_columns = input.shape[2] // height, input.shape[3] // width
        images_BHWC = input.permute(0, 2, 3, 1)[:, : num_rows * height, : num_columns * width]
        patches = images_BHWC.unflatten(2, (num_columns, width)).unflatten(1, (num_rows, height)).transpose(2, 3)
        patches = patches.to(dtype, memory_format=torch.contiguous_format).flatten(3).flatten(0, 2)
        embedded = F.linear(patches, self.weight.permute(0, 2, 3, 1).flatten(1), self.bias)
        return embedded.unflatten(0, (len(input), num_rows, num_columns)).permute(0, 3, 1, 2)


def use_linear_patches(model: nn.Module) -> None:
    """Makes a timm model embed the patches of its images by a linear layer, in place; its state dict stays.

    Results are the convolution's but for rounding. Raises UserError if no convolution takes patches of images that lie side
    by side, as in ViTs, Swin and ConvNeXt.
    """
    convolutions = [module for module in model.modules() if type(module) is nn.Conv2d and _takes_patches(module)]
    if not convolutions:
        raise UserError(f"train.patch_embed=linear: {type(model).__name__} cuts its images into no patches; want conv")
    for convolution in convolutions:
        convolution.__class__ = LinearPatches


def _takes_patches(convolution: nn.Conv2d) -> bool:
    is_side_by_side = convolution.kernel_size == convolution.stride and convolution.padding == (0, 0)
    is_plain = convolution.dilation == (1, 1) and convolution.groups == 1
    return is_side_by_side and is_plain and convolution.in_channels == _IMAGE_CHANNELS and max(convolution.kernel_size) > 1
