"""Takes a model as it trains, gives the exponential moving average of its weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


class WeightAverage:
    """`module`: a copy of a model whose floating-point state is the moving average of that model's; buffers included."""

    def __init__(self, model: nn.Module, decay: float, warmup: bool) -> None:
        self.module = copy.deepcopy(model).requires_grad_(False).eval()
        self.num_updates = 0
        self._decay = decay
        self._warmup = warmup
        self._averages, self._values, self._copies, self._sources = [], [], [], []
        source = model.state_dict()
        for name, average in self.module.state_dict().items():
            if average.is_floating_point():
                self._averages.append(average)
                self._values.append(source[name])
            else:
                self._copies.append(average)
                self._sources.append(source[name])

    @property
    def decay(self) -> float:
        """Decay of the next update."""
        if not self._warmup:
            return self._decay
        return min(self._decay, (1 + self.num_updates) / (10 + self.num_updates))

    @torch.no_grad()
    def update(self) -> None:
        """average = decay * average + (1 - decay) * weights; integer buffers are copied."""
        torch._foreach_lerp_(self._averages, self._values, 1.0 - self.decay)
        if self._copies:
            torch._foreach_copy_(self._copies, self._sources)
        self.num_updates += 1
