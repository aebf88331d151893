"""Computes attention in float32 within mixed precision, so that logits neither overflow nor lose their order."""

from __future__ import annotations

import torch
from timm.models.cait import ClassAttn, TalkingHeadAttn
from timm.models.vision_transformer import Attention
from torch import nn

from deit_fast.config import UserError
from deit_fast.model.attention_pool import QueryAttention


class _InFloat32(nn.Module):
    """Runs the next class's forward on float32 inputs with autocast off, and returns the result in autocast's dtype.

    Float16 ends at 65504, which products of queries and keys can exceed; this has mended losses that were not finite
    (facebookresearch/deit, issues 29 and 109). With bfloat16's 8 bits, scores of some hundreds are wrong by whole units.
    """

    def forward(self, *inputs: torch.Tensor, **options: object) -> torch.Tensor:
        device = inputs[0].device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else inputs[0].dtype
        with torch.autocast(device, enabled=False):
            attended: torch.Tensor = super().forward(*(x.float() for x in inputs), **options)
        return attended.to(dtype)


class Float32Attention(_InFloat32, Attention):
    """timm's self-attention in float32."""


class Float32ClassAttention(_InFloat32, ClassAttn):
    """timm's class attention of CaiT in float32."""


class Float32TalkingHeads(_InFloat32, TalkingHeadAttn):
    """timm's talking-heads attention of CaiT in float32."""


class Float32QueryAttention(_InFloat32, QueryAttention):
    """PatchConvNet's attention of learned queries in float32."""


_IN_FLOAT32: dict[type[nn.Module], type[nn.Module]] = {
    Attention: Float32Attention,
    ClassAttn: Float32ClassAttention,
    TalkingHeadAttn: Float32TalkingHeads,
    QueryAttention: Float32QueryAttention,
}


def use_float32_attention(model: nn.Module) -> None:
    """Makes every attention of a timm model compute in float32 from its projections on, despite autocast; in place.

    The weights must be float32, as autocast keeps them. Masks, normalisation of queries and keys, and dropout remain timm's;
    names and values of the state dict stay. Raises UserError if the model has no attention of ViTs, CaiT or PatchConvNet.
    """
    modules = [module for module in model.modules() if type(module) in _IN_FLOAT32]
    if not modules:
        raise UserError(
            f"model.attention_dtype=float32: {type(model).__name__} has no attention that this knows (of ViTs, CaiT "
            "and PatchConvNet); want auto"
        )
    for module in modules:
        module.__class__ = _IN_FLOAT32[type(module)]
