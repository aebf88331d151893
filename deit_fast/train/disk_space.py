"""Checks before a run that the disk of its folder has space for the checkpoints."""

from __future__ import annotations

import shutil
from pathlib import Path

from torch import nn

from deit_fast.config import RunConfig, UserError
from deit_fast.train.ema import WeightAverage

_MOMENTS = {"adamw": 2, "lamb": 2, "sgd": 1}  # tensors that an optimiser keeps beside each parameter


def checkpoint_bytes(model: nn.Module, average: WeightAverage | None, optimizer_name: str) -> int:
    """Bytes of one checkpoint: weights, average and the optimiser's moments, without the kilobytes around them."""
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    trained = sum(parameter.nbytes for parameter in model.parameters() if parameter.requires_grad)
    return weights * (1 if average is None else 2) + trained * _MOMENTS[optimizer_name]


def check_room(folder: Path, model: nn.Module, average: WeightAverage | None, config: RunConfig) -> None:
    """Raises UserError if the disk lacks space for the newest checkpoints, the best one and the one being written.

    folder: the run's, which need not exist yet."""
    train = config.train
    num_kept = train.epochs // train.keep_every if train.keep_every else 0
    size = checkpoint_bytes(model, average, config.optim.name)
    there = {path.stat().st_ino: path.stat().st_size for path in (folder / "checkpoints").glob("*.pt")}
    wanted = size * (train.keep_last + 2 + num_kept) - sum(there.values())
    free = shutil.disk_usage(next(place for place in (folder, *folder.absolute().parents) if place.is_dir())).free
    if free < wanted:
        raise UserError(
            f"run.dir={folder}: its disk has {_size(free)} left, and checkpoints of {_size(size)} each need "
            f"{_size(wanted)}; make room, choose another run.dir, or a smaller train.keep_last"
        )


def _size(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
