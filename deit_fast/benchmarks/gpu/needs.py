"""Counts the multiply-adds and memory of a model's forward pass, without computing it."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from deit_fast.config import ModelConfig
from deit_fast.model.create import create_model


@dataclass(frozen=True)
class ForwardNeeds:
    """num_parameters: of the whole model. For one image: multiply_adds; peak_values: approximate maximum of numbers in memory
    at one time beside the parameters, including the matrix of attention, which fused kernels do not keep."""

    num_parameters: int
    multiply_adds: int
    peak_values: int


def forward_needs(model: ModelConfig, *, num_classes: int, resolution: int, option: str = "model.name") -> ForwardNeeds:
    """The needs of a model's forward pass in evaluation mode. option: names the model in errors. Raises the errors of
    `create_model`, and RuntimeError if the model does not take images of that resolution."""
    with torch.device("meta"):
        network = create_model(model, num_classes=num_classes, resolution=resolution, option=option).eval()
        network.requires_grad_(False)  # the counter asks a parameter that is handed from module to module for its gradient
        images = torch.empty(1, 3, resolution, resolution)
    parameters = list(network.parameters())
    with FlopCounterMode(display=False) as counter, _Live([*parameters, *network.buffers()]) as live, torch.no_grad():
        network(images)
    return ForwardNeeds(
        num_parameters=sum(parameter.numel() for parameter in parameters),
        multiply_adds=counter.get_total_flops() // 2,  # PyTorch counts two for each
        peak_values=(live.peak_bytes + images.nbytes) // images.itemsize,
    )


class _Live(TorchDispatchMode):
    """Measures `peak_bytes`, the maximum size at one time of the tensors made inside its `with` block."""

    def __init__(self, known: list[torch.Tensor]) -> None:
        super().__init__()
        self.peak_bytes = self._bytes = 0
        # a view of what was there before is nothing new
        self._known = weakref.WeakSet(tensor.untyped_storage() for tensor in known)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(given):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage() not in self._known:
                storage = tensor.untyped_storage()
                self._known.add(storage)
                self._bytes += storage.nbytes()
                weakref.finalize(storage, self._forget, storage.nbytes())
        self.peak_bytes = max(self.peak_bytes, self._bytes)
        return given

    def _forget(self, num_bytes: int) -> None:
        self._bytes -= num_bytes
