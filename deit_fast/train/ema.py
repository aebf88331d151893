"""Exponential moving average of a model's weights."""

from __future__ import annotations

import copy

import torch
from torch import nn


class WeightAverage:
    """`module`: a copy of a model, in eval mode, whose floating-point state is the moving average of that model's.

    Buffers are averaged too, as DeiT's code does with timm's ModelEma: the statistics of batch normalisation, but not counts,
    which are copied. The decay is the same from the first update on, or rises with warmup as min(decay, (1 + n) / (10 + n))
    after n updates (TensorFlow's ExponentialMovingAverage; timm's ModelEmaV3 has another ramp, 1 - (1 + n) ** (-2 / 3)).

    The tensors of `module` stay the same objects: an update moves each of `averages` towards that of `values` at its place, and
    copies `sources` into `copies`. Both models are float32: in bfloat16 an update of 4e-5 of a weight would be lost in
    rounding.
    """

    def __init__(self, model: nn.Module, decay: float, warmup: bool) -> None:
        """model: already on its device and in its memory format; decay 0 to 1; warmup: let the decay rise up to that."""
        self.module = copy.deepcopy(model).requires_grad_(False).eval()
        self.num_updates = 0
        self._decay = decay
        self._warmup = warmup
        # with keep_vars these are the parameters themselves, and a dictionary holds one that has two names once
        averages, values = (module.state_dict(keep_vars=True).values() for module in (self.module, model))
        pairs = dict(zip(averages, values, strict=True))
        self.averages = [average for average in pairs if average.is_floating_point()]
        self.values = [pairs[average] for average in self.averages]
        self.copies = [average for average in pairs if not average.is_floating_point()]
        self.sources = [pairs[average] for average in self.copies]

    @property
    def decay(self) -> float:
        """Decay of the next update."""
        if not self._warmup:
            return self._decay
        return min(self._decay, (1 + self.num_updates) / (10 + self.num_updates))

    @torch.no_grad()
    def update(self) -> None:
        """average = decay * average + (1 - decay) * weights, all at once and in place. Does not wait for the device."""
        torch._foreach_lerp_(self.averages, self.values, 1.0 - self.decay)
        if self.copies:
            torch._foreach_copy_(self.copies, self.sources)
        self.num_updates += 1
