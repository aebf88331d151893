"""Resizes position embeddings from one grid of patches to another."""

from __future__ import annotations

import math

import torch
from torch.nn import functional as F

from deit_fast.config import UserError

Grid = tuple[int, int]


def interpolate_positions(pos_embed: torch.Tensor, num_prefix_tokens: int, old_grid: Grid, new_grid: Grid) -> torch.Tensor:
    """Resizes position embeddings (1, prefix + old height x width, D) to (1, prefix + new height x width, D).

    The first num_prefix_tokens embeddings (class and distillation token) stay unchanged. Those of patches, row by row, are
    resampled bicubically in float32 and returned in the input's dtype.

    This is what DeiT's code does (facebookresearch/deit, main.py, --finetune: align_corners=False, no antialiasing), whether
    the grid grows or shrinks. The paper chooses bicubic interpolation because it nearly keeps the norm of the vectors, where
    bilinear interpolation shortens them and lowers accuracy (arXiv 2012.12877, section 6, fine-tuning at another resolution).
    timm's resample_abs_pos_embed antialiases by default: a growing grid then gets a cubic kernel with parameter -0.5 instead
    of -0.75, and a shrinking one is smoothed first, which shortens the vectors.

    Raises ValueError if the number of embeddings does not match the prefix and the old grid.
    """
    if pos_embed.shape[1] != num_prefix_tokens + math.prod(old_grid):
        raise ValueError(f"{pos_embed.shape[1]} positions: want {num_prefix_tokens} and a grid of {grid_name(old_grid)}")
    if old_grid == new_grid:
        return pos_embed
    prefix, patches = pos_embed[:, :num_prefix_tokens], pos_embed[:, num_prefix_tokens:]
    patches_BCHW = patches.float().unflatten(1, old_grid).permute(0, 3, 1, 2)
    patches_BCHW = F.interpolate(patches_BCHW, size=new_grid, mode="bicubic", align_corners=False)
    return torch.cat([prefix, patches_BCHW.flatten(2).transpose(1, 2).to(pos_embed.dtype)], dim=1)


def grid_of(num_positions: int) -> Grid:
    """The square grid with num_positions positions. Raises UserError if there is none."""
    side = math.isqrt(num_positions)
    if side * side != num_positions:
        raise UserError(f"{num_positions} positions of patches: fill no square grid; its height and width have to be given")
    return side, side


def grid_name(grid: Grid) -> str:
    """Height x width, for messages."""
    return f"{grid[0]}x{grid[1]}"
