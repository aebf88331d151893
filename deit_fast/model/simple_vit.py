"""Simple ViT: no class token, fixed positions, mean of the patches (Beyer et al., arXiv 2205.01580; big_vision's vit.py)."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from timm.models.vision_transformer import Block, VisionTransformer, checkpoint_filter_fn
from torch import nn

_TEMPERATURE = 10_000.0
_BIAS_STD = 1e-6
_TRUNCATED_STD = 0.87962566103423978  # of a standard normal cut at 2


class SimpleViT(VisionTransformer):
    """timm's ViT with positions that are computed and not learned, for any grid, and with the first weights of big_vision.

    The head is one linear layer, from zeros: the variant "MLP to linear" of the paper. Weights of big_vision's default have
    another layer with tanh before it.
    """

    def __init__(self, weight_init: str = "", **options: Any) -> None:
        super().__init__(
            class_token=False, global_pool="avg", fc_norm=False, pos_embed="none", dynamic_img_size=True,
            norm_layer=partial(nn.LayerNorm, eps=1e-6), act_layer="gelu_tanh", weight_init="skip", **options,
        )  # fmt: skip
        if weight_init != "skip":
            self.init_as_big_vision()

    def _pos_embed(self, x: torch.Tensor) -> torch.Tensor:
        _, height, width, dim = x.shape  # of patches (B, H, W, D)
        positions = sincos_positions(height, width, dim, device=x.device).to(x.dtype)
        dropped: torch.Tensor = self.pos_drop(x.flatten(1, 2) + positions)
        return dropped

    @torch.no_grad()
    def init_as_big_vision(self) -> None:
        """Draws weights: Xavier's of each matrix (queries, keys and values apart), LeCun's of patches, zeros in the head."""
        patches: Any = self.patch_embed.proj
        std = patches.weight[0].numel() ** -0.5 / _TRUNCATED_STD
        nn.init.trunc_normal_(patches.weight, std=std, a=-2 * std, b=2 * std)
        nn.init.zeros_(patches.bias)
        for block in self.blocks:
            assert isinstance(block, Block)
            for matrix in (*block.attn.qkv.weight.chunk(3), block.attn.proj.weight, block.mlp.fc1.weight, block.mlp.fc2.weight):
                nn.init.xavier_uniform_(matrix)
            for bias in (block.attn.qkv.bias, block.attn.proj.bias):
                nn.init.zeros_(bias)
            for bias in (block.mlp.fc1.bias, block.mlp.fc2.bias):
                nn.init.normal_(bias, std=_BIAS_STD)
        if isinstance(self.head, nn.Linear):
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)


def sincos_positions(height: int, width: int, dim: int, device: torch.device | None = None) -> torch.Tensor:
    """Position embeddings (1, height x width, dim), float32, row by row: sine and cosine of the column, then of the row, of
    dim / 4 frequencies from 1 down to 1 / 10,000 each. Raises ValueError if 4 does not divide dim."""
    if dim % 4:
        raise ValueError(f"embed_dim={dim}: want a multiple of 4, for sines and cosines of two coordinates")
    frequencies = _TEMPERATURE ** -torch.linspace(0, 1, dim // 4, device=device)
    rows, columns = (torch.arange(count, dtype=torch.float32, device=device) for count in (height, width))
    of_rows = (rows[:, None] * frequencies).repeat_interleave(width, dim=0)
    of_columns = (columns[:, None] * frequencies).repeat(height, 1)
    return torch.cat([of_columns.sin(), of_columns.cos(), of_rows.sin(), of_rows.cos()], dim=1)[None]


default_cfgs = generate_default_cfgs(
    {
        "simple_vit_small_patch16_224": {
            "input_size": (3, 224, 224), "crop_pct": 0.875, "interpolation": "bilinear", "fixed_input_size": True,
            "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5), "first_conv": "patch_embed.proj", "classifier": "head",
        }
    }
)  # fmt: skip


@register_model
def simple_vit_small_patch16_224(pretrained: bool = False, **options: Any) -> nn.Module:
    """big_vision's ViT-S/16 with pool_type=gap, posemb=sincos2d and a linear head."""
    size = {"patch_size": 16, "embed_dim": 384, "depth": 12, "num_heads": 6, "qkv_bias": True}
    options.pop("dynamic_img_size", None)  # it always is
    model: nn.Module = build_model_with_cfg(
        SimpleViT, "simple_vit_small_patch16_224", pretrained, pretrained_filter_fn=checkpoint_filter_fn, **size | options
    )
    return model
