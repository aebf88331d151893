"""A batch: images, targets, sample ids and view numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch

from deit_fast.kernels import rng

# images (B, H, W, 3) and targets, in memory of the loader, to those of a batch on the device, copied on the current stream
Place = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


@dataclass(frozen=True)
class Batch:
    """Views of one rank. Their memory is reused once nobody holds the tensors or anything that shares their memory.

    images: (B, 3, H, W) of data.dtype, channels-last in memory; normalised unless uint8. targets: (B, C) float32 soft targets
    in training, (B,) int64 labels in evaluation. samples: (B,) int64, on the CPU. views: (B,) int64, on the CPU. is_fixed:
    images and targets lie where those of earlier batches lay, and later ones will.
    """

    images: torch.Tensor
    targets: torch.Tensor
    samples: torch.Tensor
    views: torch.Tensor
    is_fixed: bool = field(default=False, kw_only=True)

    def copy(self) -> Batch:
        """The batch with images and targets in memory of their own, to be kept while others are made."""
        images = self.images.clone(memory_format=torch.preserve_format)
        return Batch(images, self.targets.clone(), self.samples, self.views)


def shown(ids: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples and view numbers (B,) int64 of views with ids (B,) uint64."""
    return torch.from_numpy(rng.sample_of(ids).astype(np.int64)), torch.from_numpy(rng.view_of(ids).astype(np.int64))
