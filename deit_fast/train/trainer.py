"""Takes the configuration of a run, gives what trains on one rank: loaders, model, optimiser, average, step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deit_fast.config import RunConfig, UserError, eval_crop_ratio, eval_resolution
from deit_fast.data.beton import check_same_classes
from deit_fast.data.loader import Batch, eval_loader, train_loader
from deit_fast.model.create import create_model, has_fixed_resolution, to_channels_last
from deit_fast.train import optim, schedule
from deit_fast.train.checkpoint import check_architecture, load_weights
from deit_fast.train.dist import World
from deit_fast.train.ema import WeightAverage
from deit_fast.train.evaluate import check_dtype, evaluate
from deit_fast.train.step import TrainStep

# what a resumed run may change; anything else would make it another run
_FREE_SECTIONS = ("write", "eval", "run", "bench", "report", "demo", "out")
_FREE_OPTIONS = (
    "data.train", "data.val", "data.batch_size", "data.eval_batch_size", "data.num_workers", "data.batches_ahead",
    "data.on_error", "train.device", "train.compile", "train.log_every", "train.eval_every", "train.resume",
)  # fmt: skip


class Trainer:
    """What a run trains with: loaders, model, optimiser, average and step, built from a configuration on one rank."""

    def __init__(self, config: RunConfig, world: World) -> None:
        self.config, self.world = config, world
        _check_resolutions(config)
        data, augment, seed = config.data, config.augment, config.train.seed
        ranks = {"rank": world.rank, "world_size": world.world_size, "device": world.device}
        self.train_loader = train_loader(data, augment, seed=seed, **ranks)  # type: ignore[arg-type]
        self.eval_loader = eval_loader(data, augment, **ranks)  # type: ignore[arg-type]
        beton = self.train_loader.beton
        check_same_classes(beton, self.eval_loader.beton)
        self.classes, self.num_classes = beton.classes, beton.num_classes
        self.global_batch_size = data.batch_size * world.world_size
        self.steps_per_epoch = len(self.train_loader)
        self.peak_lr = schedule.peak_lr(config.optim, self.global_batch_size)

        torch.manual_seed(seed)  # the same first weights on every rank
        self.model = create_model(config.model, num_classes=self.num_classes, resolution=data.resolution)
        self.model = self.model.to(world.device).train()
        if config.train.channels_last:
            self.model = to_channels_last(self.model)
        self.average: WeightAverage | None = None
        if config.train.ema_decay:
            self.average = WeightAverage(self.model, config.train.ema_decay, config.train.ema_warmup)
        self.optimizer = optim.create_optimizer(config.optim, self.model, self.peak_lr)
        self.step = TrainStep(config.train, self.model, self.optimizer, self.average, world)
        check_dtype(data.dtype, self.step.amp)

    def batches(self, epoch: int) -> Iterator[Batch]:
        """The batches of an epoch, at its resolution."""
        resolution = schedule.resolution_of_epoch(self.config.data, epoch=epoch, epochs=self.config.train.epochs)
        self.train_loader.set_resolution(resolution)
        self.train_loader.set_epoch(epoch)
        return iter(self.train_loader)

    def set_lr(self, epoch: int, step: int) -> float:
        """Set and give the learning rate of a step of an epoch."""
        lr = schedule.lr_of_step(
            self.config.schedule,
            peak=self.peak_lr,
            epochs=self.config.train.epochs,
            epoch=epoch,
            step=step,
            steps_per_epoch=self.steps_per_epoch,
        )
        optim.set_lr(self.optimizer, lr)
        return lr

    def evaluate(self) -> dict[str, dict[str, Any]]:
        """The evaluation of the weights ("model") and, where there is one, of their average ("ema")."""
        self.model.eval()
        modules: dict[str, nn.Module] = {"model": self.model}
        if self.average is not None:
            modules["ema"] = self.average.module
        flip = self.config.eval.flip
        results = {
            name: evaluate(module, self.eval_loader, self.world, amp=self.step.amp, flip=flip)
            for name, module in modules.items()
        }
        self.model.train()
        return results

    def state(self) -> dict[str, Any]:
        """Everything that a checkpoint holds of the model and its training, as tensors and plain values."""
        state: dict[str, Any] = {
            "architecture": dataclasses.asdict(self.config.model),
            "num_classes": self.num_classes,
            "classes": list(self.classes) if self.classes is not None else None,
            "view": {
                "eval_resolution": eval_resolution(self.config.data),
                "eval_crop_ratio": eval_crop_ratio(self.config.data),
                "interpolation": self.config.data.interpolation,
                "mean": list(self.config.augment.mean),
                "std": list(self.config.augment.std),
            },
            "global_batch_size": self.global_batch_size,
            "config": self.config.as_dict(),
            "state_dict": self.model.state_dict(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.step.scaler.state_dict(),
        }
        if self.average is not None:
            state["state_dict_ema"] = state["model_ema"] = self.average.module.state_dict()
            state["ema_updates"] = self.average.num_updates
        return state

    def load_state(self, content: dict[str, Any], path: Path) -> None:
        """Take up the state of a checkpoint of the same run. Raises UserError if it is of another."""
        check_architecture(content, path, self.config.model, self.num_classes)
        _check_same_run(content, path, self.config, self.global_batch_size)
        load_weights(self.model, content["state_dict"], path)
        self.optimizer.load_state_dict(content["optimizer"])
        self.step.scaler.load_state_dict(content["scaler"])
        if self.average is not None:
            load_weights(self.average.module, content["state_dict_ema"], path)
            self.average.num_updates = content["ema_updates"]

    def close(self) -> None:
        """End the loaders' threads."""
        self.train_loader.close()
        self.eval_loader.close()


def _check_resolutions(config: RunConfig) -> None:
    """Raises UserError if a model of one fixed resolution is to see several."""
    data = config.data
    sides = {side for side in (data.resolution, data.start_resolution, data.eval_resolution) if side}
    if len(sides) > 1 and has_fixed_resolution(config.model.name):
        raise UserError(
            f"model.name={config.model.name}: takes one resolution, but data.resolution, data.start_resolution and "
            f"data.eval_resolution are {', '.join(map(str, sorted(sides)))}; set the last two to 0"
        )


def _check_same_run(content: dict[str, Any], path: Path, config: RunConfig, global_batch_size: int) -> None:
    """Raises UserError if a resumed configuration differs from the checkpoint's in what decides the weights."""
    if content["global_batch_size"] != global_batch_size:
        raise UserError(
            f"checkpoint {path}: of a run with a global batch of {content['global_batch_size']}, this one has "
            f"{global_batch_size}; choose data.batch_size and the number of ranks so that they agree"
        )
    ours = config.as_dict()
    for section, theirs in content["config"].items():
        if section in _FREE_SECTIONS:
            continue
        for name, value in theirs.items():
            key = f"{section}.{name}"
            if key not in _FREE_OPTIONS and ours[section][name] != value:
                raise UserError(f"checkpoint {path}: of a run with {key}={value}, not {ours[section][name]}; start a new run")
