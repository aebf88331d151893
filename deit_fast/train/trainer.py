"""Builds what a run trains with on one rank: loaders, learner, evaluation; saves and restores its state."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from deit_fast.config import RunConfig, UserError, betons_of_stages, eval_batch_size, eval_crop_ratio, eval_resolution
from deit_fast.data.format.beton_set import BetonSet
from deit_fast.data.format.classes import training_labels
from deit_fast.data.format.identity import files_of, identity, labels_digest
from deit_fast.data.load.loader import Batch, eval_loader, train_loader
from deit_fast.kernels.rng import sample_of
from deit_fast.train import schedule
from deit_fast.train.checkpoint import check_architecture, check_same_run, load_weights
from deit_fast.train.dist import World
from deit_fast.train.evaluate import Decision, evaluate
from deit_fast.train.inputs import fixed_inputs
from deit_fast.train.learner import Learner
from deit_fast.train.low_frequencies import cropped
from deit_fast.train.optim import load_optimizer
from deit_fast.train.stage_sets import StageSets, train_set_digests
from deit_fast.train.step import autocast, memory_format, on_device
from deit_fast.train.stored_labels import StoredLabels


class Trainer(Learner):
    """Loaders of a run and the learner that trains on them, built from a configuration on one rank.

    `digests`: of the content of files that affect the weights, or which of them are best, by the option that names each.
    `datasets`: facts that identify the data sets; `remarks_on_data`: kind and line of each warning about them.
    """

    def __init__(self, config: RunConfig, world: World, *, starts_anew: bool = True) -> None:
        _check_options(config)
        data, augment, seed = config.data, config.augment, config.view_seed
        ranks = {"rank": world.rank, "world_size": world.world_size, "device": world.device}
        self.train_loader = train_loader(data, augment, seed=seed, **ranks)  # type: ignore[arg-type]
        self.eval_loader = eval_loader(data, augment, **ranks)  # type: ignore[arg-type]
        beton = self.train_loader.beton
        self._sets = StageSets(config, self.train_loader, world)
        of_stages = self._sets.of_stages
        self.datasets = _datasets(config, beton, self.eval_loader.beton, of_stages)
        self.classes = beton.classes
        self._labels = training_labels(
            self.eval_loader.beton, beton.classes, num_classes=beton.num_classes, trained_on=beton.name
        )
        self.remarks_on_data = _remarks_on_data(beton, self.eval_loader.beton, of_stages, self._labels)
        self._inputs = fixed_inputs(config.train, world.device)
        steps_per_epoch = self.train_loader.order.steps_per_epoch
        train_set = train_set_digests(config, beton, of_stages)
        self._stored = StoredLabels(config, train_set, beton.num_classes, world) if config.distil.labels else None
        super().__init__(
            config,
            world,
            num_classes=beton.num_classes,
            steps_per_epoch=steps_per_epoch,
            starts_anew=starts_anew,
            labels=self._stored.answers if self._stored is not None else None,
        )
        self.remarks += self._stored.remarks if self._stored is not None else []
        self.digests = self._digests(train_set)
        self._modules = {"model": self.model} | ({"ema": self.average.module} if self.average is not None else {})
        how = {"attention": config.train.attention, "compile_mode": config.train.compile}
        self._decisions = {name: Decision(module, config.eval, **how) for name, module in self._modules.items()}
        self._has_compiled_evaluation = config.train.compile == "off"

    def _digests(self, train_set: dict[str, str]) -> dict[str, dict[str, str]]:
        found = {"data.train": train_set, "data.val": identity(self.eval_loader.beton)}
        if self.teacher is not None:
            found["distil.teacher_weights"] = {"weights": self.teacher.digest}
        if self.teacher is not None or self._stored is not None:
            found["distil.labels"] = {"answers": self._stored.digest if self._stored is not None else "none"}
        return found

    @property
    def images_per_epoch(self) -> int:
        """Views that all ranks train on in an epoch."""
        return self.steps_per_epoch * self.global_batch_size

    @property
    def num_evaluated(self) -> int:
        """Number of weights that an evaluation evaluates: the model's, and their average if there is one."""
        return len(self._modules)

    def stage(self, epoch: int) -> schedule.Stage:
        """The stage of an epoch: the resolution and the augmentation of its views."""
        return schedule.stage_of_epoch(self.config, epoch)

    def batches(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from a step on, in its stage, on the device; each valid until the next but one.

        Sets of images that neither this epoch nor a later one shows are let go."""
        self._sets.begin_epoch(epoch)
        return self.batches_in(self.stage(epoch), epoch, first_step)

    def batches_in(self, stage: schedule.Stage, epoch: int, first_step: int = 0) -> Generator[Batch, None, None]:
        """The batches of an epoch in a stage."""
        self._sets.show(stage)
        self.train_loader.set_resolution(schedule.loaded_resolution(self.config, stage))
        self.train_loader.set_augment(stage.augment)
        self.train_loader.set_epoch(self._shown_epoch(epoch), first_step)
        channels_last = self.config.train.channels_last
        batches = on_device(self.train_loader, self.world.device, channels_last=channels_last, inputs=self._inputs)
        return cropped(batches, stage.resolution)

    def samples_of_step(self, epoch: int, step: int) -> list[int]:
        """The samples of this rank's batch at a step."""
        samples: list[int] = sample_of(self.train_loader.order.batches(self._shown_epoch(epoch), step)[0]).tolist()
        return samples

    def _shown_epoch(self, epoch: int) -> int:
        """The epoch whose views an epoch shows: its own, or one that distil.labels has."""
        return epoch if self._stored is None else epoch % self._stored.num_epochs

    def compile_evaluation(self) -> None:
        """Compiles evaluation before it is timed; does nothing if train.compile is off, or at a second call."""
        if self._has_compiled_evaluation:
            return
        data = self.config.data
        shape = eval_batch_size(data), 3, *[eval_resolution(data)] * 2
        images = torch.zeros(shape, dtype=getattr(torch, data.dtype), device=self.world.device)
        images = images.to(memory_format=memory_format(self.config.train.channels_last))
        for name, module in self._modules.items():
            module.eval()
            with torch.inference_mode(), autocast(self.step.amp, self.world.device):
                self._decisions[name](images)
        self.set_mode()
        self._has_compiled_evaluation = True

    def evaluate(self, should_stop: Callable[[], bool]) -> dict[str, dict[str, Any]] | None:
        """Evaluates the weights ("model") and, if there is one, their average ("ema").

        None if should_stop, called equally often on each rank, ended it early."""
        results: dict[str, dict[str, Any]] = {}
        for name, module in self._modules.items():
            # each rank has batch statistics of its own; a checkpoint holds rank 0's, and these are evaluated
            self.world.share_buffers(module)
            module.eval()
            decision = self._decisions[name]
            result = evaluate(
                decision,
                self.eval_loader,
                self.world,
                amp=self.step.amp,
                channels_last=self.config.train.channels_last,
                labels=self._labels,
                should_stop=should_stop,
            )
            if result is None:
                break
            results[name] = result
        self.set_mode()
        return results if len(results) == len(self._modules) else None

    def is_finite(self) -> bool:
        """Whether weights, batch statistics and their average are all finite numbers. Waits for the device."""
        values = [value for module in self._modules.values() for value in module.state_dict().values()]
        norms = torch._foreach_norm([value for value in values if value.is_floating_point()])
        return math.isfinite(torch.stack([norm.double() for norm in norms]).norm())

    def digest(self) -> str:
        """SHA-256 over the bytes of all the model's parameters, in order."""
        digest = hashlib.sha256()
        for parameter in self.model.parameters():
            digest.update(parameter.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

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
            "num_samples": self.train_loader.order.num_samples,
            "digests": self.digests,
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
        num_samples = self.train_loader.order.num_samples
        check_same_run(content, path, self.config, self.global_batch_size, num_samples, self.digests)
        load_weights(self.model, content["state_dict"], path)
        load_optimizer(self.optimizer, content["optimizer"])
        self.step.scaler.load_state_dict(content["scaler"])
        if self.average is not None:
            load_weights(self.average.module, content["state_dict_ema"], path)
            self.average.num_updates = content["ema_updates"]

    def close(self) -> None:
        """End the loaders' threads."""
        self.train_loader.close()
        self.eval_loader.close()


def _datasets(
    config: RunConfig, train: BetonSet, val: BetonSet, of_stages: Mapping[str, BetonSet]
) -> dict[str, dict[str, Any]]:
    """Facts that identify the data sets of a run, which a set stored again with other pixels keeps; and its files, also those
    of stages by their numbers from 1."""
    stages = {
        str(number): files_of(of_stages[text])
        for number, text in enumerate(betons_of_stages(config), start=1)
        if text in of_stages
    }
    return {"train": _dataset(train) | ({"stages": stages} if stages else {}), "val": _dataset(val)}


def _dataset(betons: BetonSet) -> dict[str, Any]:
    facts = {"num_images": betons.num_samples, "num_classes": betons.num_classes, "labels": labels_digest(betons)}
    return {**facts, "betons": files_of(betons)}


def _remarks_on_data(
    train: BetonSet, val: BetonSet, of_stages: Mapping[str, BetonSet], labels: NDArray[np.int64] | None
) -> list[tuple[str, str]]:
    """Kind and line of each warning about the data sets. labels: of `training_labels`."""
    remarks = [("warning", line) for betons in (train, *of_stages.values(), val) for line in betons.remarks]
    if train.labels.min() == train.labels.max():
        remarks.append(("warning", f"{train.name}: all images are of one class; want as many as the model is to tell apart"))
    if labels is not None:
        remarks.append(("classes", f"{val.name}: has {len(labels)} of the {train.num_classes}, found by name"))
    return remarks


def _check_options(config: RunConfig) -> None:
    """Raises UserError if model.options contradict the run's images."""
    for name, wanted in (("img_size", config.data.resolution), ("in_chans", 3)):
        got = config.model.options.get(name, wanted)
        if got != wanted:
            raise UserError(f"model.options: {name}={got}: the run's images have {wanted}; leave it out")
