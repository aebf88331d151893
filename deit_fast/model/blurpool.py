"""Anti-aliases a convnet by blurring the input of each strided convolution (Zhang, ICML 2019)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from deit_fast.config import UserError

_MIN_CHANNELS = 16  # leaves the first convolution, on 3 channels, unchanged


class BlurConv2d(nn.Conv2d):
    """A strided convolution that first blurs its input by [1 2 1] x [1 2 1] / 16; has the convolution's state dict."""

    blur: torch.Tensor

    @classmethod
    def of(cls, conv: nn.Conv2d) -> BlurConv2d:
        """Makes a blurred convolution with the settings and weights of conv."""
        blurred = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,  # type: ignore[arg-type]
            conv.stride,  # type: ignore[arg-type]
            conv.padding,  # type: ignore[arg-type]
            conv.dilation,  # type: ignore[arg-type]
            conv.groups,
            conv.bias is not None,
        )
        blurred.weight, blurred.bias = conv.weight, conv.bias
        line = torch.tensor([1.0, 2.0, 1.0]) / 4.0
        kernel = torch.outer(line, line).expand(conv.in_channels, 1, 3, 3).contiguous()
        blurred.register_buffer("blur", kernel, persistent=False)
        return blurred

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        blurred = F.conv2d(input, self.blur.to(input.dtype), padding=1, groups=self.in_channels)
        return super().forward(blurred)


def add_blurpool(model: nn.Module) -> None:
    """Replaces, in place, each convolution with a stride above 1 and at least 16 input channels, as ffcv-imagenet does.

    Raises UserError if there is none, as in ViTs."""
    is_any = False
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if not isinstance(child, nn.Conv2d) or isinstance(child, BlurConv2d):
                continue
            if max(child.stride) > 1 and child.in_channels >= _MIN_CHANNELS:
                setattr(module, name, BlurConv2d.of(child))
                is_any = True
    if not is_any:
        raise UserError(f"model.blurpool: {type(model).__name__} has no strided convolution to blur; want it off")
