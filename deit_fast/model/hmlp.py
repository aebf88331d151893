"""Embeds patches by a hierarchy of small linear layers: the hMLP stem (Touvron et al., arXiv 2203.09795)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from timm.layers import PatchEmbed
from torch import nn

_MERGES = 4  # sides of 2 and 2: what the last two layers merge


class HMLPStem(PatchEmbed):
    """Patches of P pixels in three layers, P / 4, 2 and 2 wide, for `embed_layer` of timm's ViTs.

    No layer sees beyond a patch. A patch that is masked before the stem so leaves the others' embeddings as they are, and can
    as well be masked after it. In training mode that holds but for the statistics of the batch, which all patches share.

    norm_layer: of channels in (B, C, H, W); by default batch normalisation, as in DeiT's code (models_v2.py, hMLP_stem), which
    takes its statistics over all ranks. `embed_norm_layer=layernorm2d` of timm makes it independent of the batch. Names in the
    state dict are DeiT's. Raises ValueError for patches that 4 does not divide, and a width that 4 does not divide.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] | None = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        norm_layer: Callable[[int], nn.Module] | None = None,
        bias: bool = True,
        **options: Any,
    ) -> None:
        if patch_size % _MERGES or embed_dim % 4:
            raise ValueError(f"hMLP stem: patch_size={patch_size}, embed_dim={embed_dim}: want multiples of 4")
        super().__init__(img_size, patch_size, in_chans, embed_dim, bias=bias, **options)
        normalise, dim = norm_layer or nn.BatchNorm2d, embed_dim // 4
        side = patch_size // _MERGES
        self.proj = nn.Sequential(
            nn.Conv2d(in_chans, dim, side, side, bias=bias),
            normalise(dim),
            nn.GELU(),
            nn.Conv2d(dim, dim, 2, 2, bias=bias),
            normalise(dim),
            nn.GELU(),
            nn.Conv2d(dim, embed_dim, 2, 2, bias=bias),
            normalise(embed_dim),
        )
