"""Memory at fixed addresses for the batches of a run, which CUDA graphs read in place."""

from __future__ import annotations

import torch

from deit_fast.config import TrainConfig

NUM_IN_TURN = 2  # batches: one is read by a step while the next is copied
_MODES_WITH_GRAPHS = ("reduce-overhead", "max-autotune")


class FixedInputs:
    """Memory for images and targets of so many batches in turn, the same again for each shape.

    A CUDA graph reads its inputs where they lay when it was recorded. PyTorch copies inputs that lie elsewhere there before
    each step. The backward graph reads targets again, and images if no cast of them is kept: before torch 2.15 it was recorded
    anew where their addresses changed. A graph is recorded once for each batch in turn.
    """

    def __init__(self, device: torch.device, num_in_turn: int = NUM_IN_TURN) -> None:
        self._device, self._num_in_turn = device, num_in_turn
        self._memory: dict[tuple[int, torch.Size, torch.dtype], torch.Tensor] = {}
        self._turn = 0

    def fill(self, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Copies a batch, on the current stream, over one num_in_turn batches earlier, which nothing may read any more.

        Gives tensors of the same shapes, dtypes and memory formats."""
        self._turn = (self._turn + 1) % self._num_in_turn
        return self._copied(images), self._copied(targets)

    def _copied(self, tensor: torch.Tensor) -> torch.Tensor:
        place = self._turn, tensor.shape, tensor.dtype
        if place not in self._memory:
            self._memory[place] = torch.empty_like(tensor, device=self._device)
        return self._memory[place].copy_(tensor, non_blocking=True)


def has_graphs(train: TrainConfig, device: torch.device) -> bool:
    """Whether the steps of a run are CUDA graphs."""
    return device.type == "cuda" and train.compile in _MODES_WITH_GRAPHS


def fixed_inputs(train: TrainConfig, device: torch.device) -> FixedInputs | None:
    """Memory for the batches of a run's loader; None where no CUDA graph reads them as the loader makes them, channels-last."""
    return FixedInputs(device) if has_graphs(train, device) and train.channels_last else None
