"""Batch normalisation with the statistics of all ranks' views."""

from __future__ import annotations

import torch
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import nn
from torch.distributed.nn.functional import all_reduce
from torch.nn.modules.batchnorm import _BatchNorm

from deit_fast.model.hmlp import HMLPStem
from deit_fast.train.dist import World


def share_statistics(model: nn.Module, which: str, world: World) -> nn.Module:
    """The model, whose layers of batch normalisation take mean and variance over the views of all ranks; on one rank, as it is.

    which: train.sync_batchnorm. auto: those of hMLP stems, which DeiT's code synchronises (models_v2.py, hMLP_stem); all; off.
    Names and values in the state dict stay. Ranks have equally many views. On CUDA the layers become PyTorch's SyncBatchNorm,
    which has no code for CPUs; there they become ours.
    """
    if world.world_size == 1 or which == "off":
        return model
    if which == "all":
        return _converted(model, world.device)
    for module in model.modules():
        if isinstance(module, HMLPStem):
            module.add_module("proj", _converted(module.proj, world.device))
    return model


def _converted(model: nn.Module, device: torch.device) -> nn.Module:
    if device.type == "cuda":
        return convert_sync_batchnorm(model)
    for module in model.modules():
        if isinstance(module, BatchNormAct2d):
            module.__class__ = _SyncedWithActivation
        elif isinstance(module, _BatchNorm):
            module.__class__ = _Synced
    return model


class _Synced(_BatchNorm):
    """On the CPU, in place of PyTorch's: in training mode over all ranks, else as it was."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """images: (B, C, ...), of any float dtype; statistics are at least float32."""
        if not self.training:
            return super().forward(images)
        return _normalised(self, images)

    def _check_input_dim(self, _: torch.Tensor) -> None:
        """All are right: the class does not tell them apart."""


class _SyncedWithActivation(BatchNormAct2d):
    """The same for timm's layer that drops blocks and activates as well."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(images)
        return self.act(self.drop(_normalised(self, images)))


@torch.compiler.disable  # of exchanges between ranks
def _normalised(layer: _BatchNorm, images: torch.Tensor) -> torch.Tensor:
    """What a layer in training mode makes of images (B, C, ...); its running statistics move."""
    axes = [0, *range(2, images.ndim)]
    shape = [1, -1] + [1] * (images.ndim - 2)
    world_size = torch.distributed.get_world_size()
    values = images.to(torch.promote_types(images.dtype, torch.float32))
    mean = all_reduce(values.mean(axes)) / world_size
    centred = values - mean.view(shape)
    variance = all_reduce(centred.square().mean(axes)) / world_size
    if layer.running_mean is not None and layer.running_var is not None and layer.num_batches_tracked is not None:
        layer.num_batches_tracked.add_(1)
        share = 1 / int(layer.num_batches_tracked) if layer.momentum is None else layer.momentum
        num_values = world_size * images.numel() // images.shape[1]
        with torch.no_grad():
            layer.running_mean.lerp_(mean, share)
            layer.running_var.lerp_(variance * (num_values / max(num_values - 1, 1)), share)
    normal = centred * torch.rsqrt(variance + layer.eps).view(shape)
    if layer.affine:
        normal = normal * layer.weight.view(shape) + layer.bias.view(shape)
    return normal.to(images.dtype)
