"""Takes the configuration of a run, gives what trains on one rank: loaders, model, teacher, optimiser, average, step."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deit_fast.augment.rng import sample_of
from deit_fast.config import RunConfig, UserError, eval_batch_size, eval_crop_ratio, eval_resolution
from deit_fast.data.beton import check_same_classes
from deit_fast.data.loader import Batch, eval_loader, train_loader
from deit_fast.model.create import create_model, has_fixed_resolution, to_channels_last
from deit_fast.model.parts import freeze_except
from deit_fast.model.weights import fit_weights, weights_of
from deit_fast.train import optim, schedule
from deit_fast.train.checkpoint import check_architecture, load_any, load_weights
from deit_fast.train.dist import World
from deit_fast.train.ema import WeightAverage
from deit_fast.train.evaluate import Decision, check_dtype, evaluate
from deit_fast.train.feed import on_device
from deit_fast.train.objective import Objective
from deit_fast.train.resume import check_same_run
from deit_fast.train.step import TrainStep, autocast, resolve_amp
from deit_fast.train.teacher import Teacher, create_teacher


class Trainer:
    """What a run trains with: loaders, model, teacher, optimiser, average and step, built from a configuration on one rank.

    starts_anew: whether model.weights are read, if there are any; a run that goes on has its weights in its checkpoint.
    `remarks` are lines about what was adapted in them.
    """

    def __init__(self, config: RunConfig, world: World, *, starts_anew: bool = True) -> None:
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
        self.steps_per_epoch = self.train_loader.order.steps_per_epoch
        self.peak_lr = schedule.peak_lr(config.optim, self.global_batch_size)
        amp = resolve_amp(config.train.amp, world.device)
        check_dtype(data.dtype, amp)

        self.remarks: list[str] = []
        self.model = self._create_model(starts_anew)
        self.average: WeightAverage | None = None
        if config.train.ema_decay:
            self.average = WeightAverage(self.model, config.train.ema_decay, config.train.ema_warmup)
        self.optimizer = optim.create_optimizer(config.optim, self.model, self.peak_lr)
        objective = Objective(self.model, config.train, config.distil)
        teacher = self._create_teacher()
        self.step = TrainStep(config.train, config.optim, objective, self.optimizer, self.average, teacher, world)
        self._modules = {"model": self.model} | ({"ema": self.average.module} if self.average is not None else {})
        self._decisions = {name: Decision(module, config.eval, config.train.compile) for name, module in self._modules.items()}
        self._has_compiled_evaluation = config.train.compile == "off"
        self._set_mode()

    def _create_model(self, starts_anew: bool) -> nn.Module:
        config = self.config
        torch.manual_seed(config.train.seed)  # the same first weights on every rank
        model = create_model(config.model, num_classes=self.num_classes, resolution=config.data.resolution)
        if config.model.weights and starts_anew:
            content = load_any(config.model.weights)
            weights = weights_of(content, config.model.weights_from, path=config.model.weights)
            self.remarks += fit_weights(model, weights, path=config.model.weights)
        freeze_except(model, config.model.trains)
        model = model.to(self.world.device)
        return to_channels_last(model) if config.train.channels_last else model

    def _create_teacher(self) -> Teacher | None:
        config = self.config
        if config.distil.kind == "none":
            return None
        teacher = create_teacher(
            config.distil,
            num_classes=self.num_classes,
            resolution=config.data.resolution,
            mean=config.augment.mean,
            std=config.augment.std,
            device=self.world.device,
            channels_last=config.train.channels_last,
            compile_mode=config.train.compile,
        )
        self.remarks += [f"teacher: {line}" for line in teacher.adapted]
        return teacher

    def _set_mode(self) -> None:
        self.model.train(self.config.train.mode == "train")

    @property
    def images_per_epoch(self) -> int:
        """Views that all ranks train on in an epoch."""
        return self.steps_per_epoch * self.global_batch_size

    def resolution(self, epoch: int) -> int:
        """Side of a training view in pixels in an epoch."""
        return schedule.resolution_of_epoch(self.config.data, epoch=epoch, epochs=self.config.train.epochs)

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from a step on, at its resolution, on the device."""
        self.train_loader.set_resolution(self.resolution(epoch))
        self.train_loader.set_epoch(epoch, first_step)
        return on_device(self.train_loader, self.world.device)

    def samples_of_step(self, epoch: int, step: int) -> list[int]:
        """The samples of this rank's batch at a step."""
        samples: list[int] = sample_of(self.train_loader.order.batches(epoch, step)[0]).tolist()
        return samples

    def lr(self, epoch: int, step: int) -> float:
        """The learning rate of a step of an epoch."""
        return schedule.lr_of_step(
            self.config.schedule,
            peak=self.peak_lr,
            epochs=self.config.train.epochs,
            epoch=epoch,
            step=step,
            steps_per_epoch=self.steps_per_epoch,
        )

    def train_on(self, batch: Batch, epoch: int, step: int) -> None:
        """One step of an epoch, at its learning rate."""
        optim.set_lr(self.optimizer, self.lr(epoch, step))
        self.step(batch.images, batch.targets, epoch, step)

    def compile_evaluation(self) -> None:
        """What evaluation compiles, before it is timed; nothing where train.compile is off, and at a second call."""
        if self._has_compiled_evaluation:
            return
        data = self.config.data
        shape = eval_batch_size(data), 3, *[eval_resolution(data)] * 2
        images = torch.zeros(shape, dtype=getattr(torch, data.dtype), device=self.world.device)
        images = images.to(memory_format=torch.channels_last)
        for name, module in self._modules.items():
            module.eval()
            with torch.inference_mode(), autocast(self.step.amp, self.world.device):
                self._decisions[name](images)
        self._set_mode()
        self._has_compiled_evaluation = True

    def evaluate(self, should_stop: Callable[[], bool]) -> dict[str, dict[str, Any]] | None:
        """The evaluation of the weights ("model") and, where there is one, of their average ("ema").

        None if should_stop, asked by each rank equally often, ended it early."""
        results: dict[str, dict[str, Any]] = {}
        for name, module in self._modules.items():
            # each rank has batch statistics of its own; a checkpoint holds rank 0's, and these are evaluated
            self.world.share_buffers(module)
            module.eval()
            decision = self._decisions[name]
            result = evaluate(decision, self.eval_loader, self.world, amp=self.step.amp, should_stop=should_stop)
            if result is None:
                break
            results[name] = result
        self._set_mode()
        return results if len(results) == len(self._modules) else None

    def state(self) -> dict[str, Any]:
        """Everything that a checkpoint holds of the model and its training, as tensors and plain values."""
        weights = self.model.state_dict()
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
            "state_dict": weights,
            "model": weights,
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
        check_same_run(content, path, self.config, self.global_batch_size)
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
