"""Memory at fixed addresses for the batches of a run, which CUDA graphs read in place."""

from __future__ import annotations

import torch

from deit_fast.config import TrainConfig

NUM_IN_TURN = 2  # batches in memory: one is read by a step while the next is copied
_MODES_WITH_GRAPHS = ("reduce-overhead", "max-autotune")


class FixedInputs:
    """Memory for images and targets of two batches in turn, the same again for each shape.

    A CUDA graph reads its inputs where they lay when it was recorded. PyTorch copies inputs that lie elsewhere there before
    each step. The backward graph reads targets again, and images if no cast of them is kept: before torch 2.15 it was recorded
    anew where their addresses changed. With two addresses a graph is recorded twice.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._memory: dict[tuple[int, torch.Size, torch.dtype], torch.Tensor] = {}
        self._turn = 0

    def fill(self, images_BHWC: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Copies a batch, on the current stream, over the one before the last, which nothing may read any more."""
        self._turn = (self._turn + 1) % NUM_IN_TURN
        return self._copied(images_BHWC), self._copied(targets)

    def _copied(self, tensor: torch.Tensor) -> torch.Tensor:
        place = self._turn, tensor.shape, tensor.dtype
        if place not in self._memory:
            self._memory[place] = torch.empty(tensor.shape, dtype=tensor.dtype, device=self._device)
        return self._memory[place].copy_(tensor, non_blocking=True)


def fixed_inputs(train: TrainConfig, device: torch.device) -> FixedInputs | None:
    """Memory for the batches of a run; None where no CUDA graph reads them as the loader makes them, channels-last."""
    is_of_use = device.type == "cuda" and train.compile in _MODES_WITH_GRAPHS and train.channels_last
    return FixedInputs(device) if is_of_use else None
