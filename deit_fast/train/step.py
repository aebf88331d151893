"""Takes a batch, gives the model one step further: forward, loss, backward, update."""

from __future__ import annotations

import hashlib

import torch
from torch import nn

from deit_fast.config import TrainConfig
from deit_fast.train.dist import World
from deit_fast.train.ema import WeightAverage
from deit_fast.train.loss import soft_cross_entropy

_AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def resolve_amp(amp: str, device: torch.device) -> str:
    """The precision that train.amp means on a device: off, bf16 or fp16."""
    if amp != "auto":
        return amp
    return "bf16" if device.type == "cuda" else "off"


def autocast(amp: str, device: torch.device) -> torch.autocast:
    """The context of a forward pass in the given precision (off, bf16 or fp16)."""
    return torch.autocast(device.type, dtype=_AMP_DTYPES.get(amp, torch.bfloat16), enabled=amp != "off")


class TrainStep:
    """One optimiser step for each call. Nothing in it waits for the device: the loss accumulates there until it is read."""

    def __init__(
        self,
        config: TrainConfig,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        average: WeightAverage | None,
        world: World,
    ) -> None:
        self.amp = resolve_amp(config.amp, world.device)
        self.optimizer = optimizer
        self.average = average
        self.scaler = torch.amp.GradScaler(world.device.type, enabled=self.amp == "fp16")
        self._seed = config.seed
        self._world = world
        self._forward: nn.Module = model
        if world.world_size > 1:
            device_ids = [world.device] if world.device.type == "cuda" else None
            self._forward = nn.parallel.DistributedDataParallel(model, device_ids=device_ids, gradient_as_bucket_view=True)
        if config.compile != "off":
            self._forward = torch.compile(self._forward, mode=config.compile)  # type: ignore[assignment]
        self._loss_sum = torch.zeros((), dtype=torch.float64, device=world.device)
        self._num_losses = 0

    def __call__(self, images: torch.Tensor, targets: torch.Tensor, epoch: int, step: int) -> None:
        """Train on images (B, 3, H, W) and soft targets (B, C), both on the device; step counts from 0 in the epoch.

        What the model draws (stochastic depth, dropout) is a function of (seed, epoch, step, rank)."""
        torch.manual_seed(_seed_of_step(self._seed, epoch, step, self._world.rank))
        with autocast(self.amp, self._world.device):
            logits = self._forward(images)
        loss = soft_cross_entropy(logits, targets)
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update()
        self._loss_sum += loss.detach()
        self._num_losses += 1

    def read_loss(self) -> float:
        """Mean loss over all ranks since it was last read. Waits for the device."""
        total = self._world.sum(self._loss_sum.clone()).item()
        mean: float = total / max(1, self._num_losses * self._world.world_size)
        self._loss_sum.zero_()
        self._num_losses = 0
        return mean


def _seed_of_step(seed: int, epoch: int, step: int, rank: int) -> int:
    """A 63-bit seed from the run's seed and the place of the step."""
    digest = hashlib.blake2b(f"{seed} {epoch} {step} {rank}".encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1
