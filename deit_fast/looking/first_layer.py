"""Gives the filters of a model's first layer, and how similar its position embeddings are."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

_MAX_FILTERS = 64  # filters shown as they are; of more, principal components
_NUM_COMPONENTS = 28  # as ViT's figure 7 has (Dosovitskiy et al. 2021)


def first_filters(model: nn.Module) -> tuple[str, NDArray[np.float32]] | None:
    """What is shown, in words, and filters (n, height, width, 3) of the model's first convolution; None without one of colours.

    Up to 64 filters as they are; of more, such as those of a patch embedding, the first 28 principal components.
    """
    first = next((module for module in model.modules() if isinstance(module, nn.Conv2d)), None)
    if first is None or first.in_channels != 3 or first.groups != 1:
        return None
    filters = first.weight.detach().float().cpu().permute(0, 2, 3, 1)
    if len(filters) <= _MAX_FILTERS:
        return f"the {len(filters)} filters", filters.numpy()
    components = principal_components(filters.flatten(1).numpy(), _NUM_COMPONENTS)
    shape = (len(components), *filters.shape[1:])
    return f"{len(components)} principal components of {len(filters)} filters", components.reshape(shape)


def principal_components(rows: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """The first `count` principal components (count, D), of length 1, of rows (n, D)."""
    _, _, components = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    return components[:count].astype(np.float32)


def position_similarity(model: nn.Module) -> NDArray[np.float32] | None:
    """Cosine of each patch's position embedding with each other's, (height, width, height, width); None without a grid."""
    positions, patches = getattr(model, "pos_embed", None), getattr(model, "patch_embed", None)
    grid = getattr(patches, "grid_size", None)
    if not isinstance(positions, torch.Tensor) or positions.ndim != 3 or grid is None:
        return None
    num_prefix = positions.shape[1] - grid[0] * grid[1]
    if num_prefix < 0:
        return None
    unit = torch.nn.functional.normalize(positions.detach()[0, num_prefix:].double(), dim=1)
    return (unit @ unit.T).reshape(*grid, *grid).float().cpu().numpy()
