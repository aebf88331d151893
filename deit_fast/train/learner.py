"""Builds what learns on one rank: model, teacher, optimiser, moving average, step; and tries beforehand that it can."""

from __future__ import annotations

import copy
import importlib.util
import os
import shutil
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from deit_fast.config import RunConfig, UserError, eval_resolution
from deit_fast.data.load.loader import Batch
from deit_fast.model.attention_kernel import try_attention
from deit_fast.model.create import create_model
from deit_fast.model.memory_format import to_channels_last
from deit_fast.model.parts import freeze_except
from deit_fast.model.patch_dropout import patch_dropouts, show_patches
from deit_fast.model.patches import use_linear_patches
from deit_fast.model.weights import fit_weights, weights_of
from deit_fast.train import optim, schedule
from deit_fast.train.checkpoint import load_any
from deit_fast.train.dist import World
from deit_fast.train.ema import WeightAverage
from deit_fast.train.objective import Objective
from deit_fast.train.step import Labels, TrainStep, autocast, check_dtype, resolve_amp
from deit_fast.train.sync_batchnorm import share_statistics
from deit_fast.train.teacher import Teacher, create_teacher


class Learner:
    """Model, teacher, optimiser, average and step of a run, on one rank; batches come from outside.

    num_classes, steps_per_epoch: of the training set. starts_anew: read model.weights, if set; a resumed run has its weights in
    its checkpoint. labels: of distil.labels. `remarks`: lines about what was adapted in them.
    """

    def __init__(
        self,
        config: RunConfig,
        world: World,
        *,
        num_classes: int,
        steps_per_epoch: int,
        starts_anew: bool = True,
        labels: Labels | None = None,
    ) -> None:
        if config.distil.labels and labels is None:
            raise UserError(f"distil.labels={config.distil.labels}: are of a beton's views, and here are none; want it off")
        self.config, self.world = config, world
        self.num_classes, self.steps_per_epoch = num_classes, steps_per_epoch
        self.global_batch_size = config.data.batch_size * world.world_size
        self.peak_lr = schedule.peak_lr(config.optim, self.global_batch_size)
        self._clock = schedule.compute_clock(config)
        check_dtype(config.data.dtype, resolve_amp(config.train.amp, world.device))
        check_compiler(config.train.compile, world.device)

        self.remarks: list[str] = []
        self.model = self._create_model(starts_anew)
        self._patch_dropouts = patch_dropouts(self.model)
        self.average: WeightAverage | None = None
        if config.train.ema_decay:
            self.average = WeightAverage(self.model, config.train.ema_decay, config.train.ema_warmup)
        self.optimizer = optim.create_optimizer(config.optim, self.model, self.peak_lr)
        objective = Objective(self.model, config.train, config.distil)
        self.teacher = self._create_teacher()
        self.step = TrainStep(config.train, config.optim, objective, self.optimizer, self.average, self.teacher, world, labels)
        self._try_out()
        self.set_mode()

    def _create_model(self, starts_anew: bool) -> nn.Module:
        config = self.config
        torch.manual_seed(config.train.seed)  # the same first weights on every rank
        model = create_model(
            config.model,
            num_classes=self.num_classes,
            resolution=config.data.resolution,
            has_other_sides=schedule.has_changing_views(config),
        )
        if config.model.weights and starts_anew:
            content = load_any(config.model.weights)
            weights = weights_of(content, config.model.weights_from, path=config.model.weights)
            self.remarks += fit_weights(model, weights, path=config.model.weights)
        freeze_except(model, config.model.trains)
        if config.train.patch_embed == "linear":
            use_linear_patches(model)
        model = model.to(self.world.device)
        model = to_channels_last(model) if config.train.channels_last else model
        return share_statistics(model, config.train.sync_batchnorm, self.world)

    def _create_teacher(self) -> Teacher | None:
        config = self.config
        if not config.distil.has_teacher:
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
            attention=config.train.attention,
            has_other_sides=schedule.has_changing_views(config),
        )
        self.remarks += [f"teacher: {line}" for line in teacher.adapted]
        return teacher

    def _try_out(self) -> None:
        """Raises UserError if model or teacher cannot process the images of the run."""
        data, train, device = self.config.data, self.config.train, self.world.device
        sides = {stage.resolution for stage in schedule.stages_of(self.config)}
        name, all_sides = f"model.name={self.config.model.name}", {*sides, eval_resolution(data), data.resolution}
        _check_resolutions(self.model, name, all_sides, device)
        if self.teacher is not None:
            teacher = f"distil.teacher={self.config.distil.teacher}"
            _check_resolutions(self.teacher.model, teacher, {*sides, data.resolution}, device)
        self.set_mode()
        if train.attention != "auto":
            self._try_attention(copy.deepcopy(self.model), name, all_sides)
            if self.teacher is not None:
                with torch.no_grad():
                    self._try_attention(self.teacher.model, teacher, sides, is_needed=False)
        _check_single_image(self.model, smallest_piece(data.batch_size, train.accumulate), min(sides), device)

    def _try_attention(self, model: nn.Module, option: str, sides: Iterable[int], *, is_needed: bool = True) -> None:
        """Raises UserError if a model cannot use the kernel of train.attention at each of the sides, in pixels, or has no use
        for one where one is needed. option: names the model in the error."""
        kernel, device = self.config.train.attention, self.world.device
        num_calls = 0
        for side in sides:
            with autocast(self.step.amp, device):  # two images, for batch statistics
                num_calls += try_attention(kernel, model, torch.zeros(2, 3, side, side, device=device), option=option)
        if is_needed and num_calls == 0:
            raise UserError(f"train.attention={kernel}: {option} asks PyTorch for no attention; want auto")

    def set_mode(self) -> None:
        """Put the model into its training mode, by train.mode."""
        self.model.train(self.config.train.mode == "train")

    def lr(self, epoch: int, step: int) -> float:
        """The learning rate of a step of an epoch."""
        return schedule.lr_of_step(
            self.config.schedule,
            peak=self.peak_lr,
            epochs=self.config.train.epochs,
            epoch=epoch,
            step=step,
            steps_per_epoch=self.steps_per_epoch,
            clock=self._clock,
        )

    def leaves_out_patches(self, epoch: int) -> bool:
        """Whether the views of an epoch lack model.patch_dropout of their patches."""
        return schedule.leaves_out_patches(self.config.model, epoch=epoch, epochs=self.config.train.epochs)

    def train_on(self, batch: Batch, epoch: int, step: int) -> None:
        """One step of an epoch, at its learning rate and with its share of the patches."""
        if self.config.train.mode == "train":
            show_patches(self._patch_dropouts, all_of_them=not self.leaves_out_patches(epoch))
        self.step(batch, epoch, step, self.lr(epoch, step))


def check_compiler(mode: str, device: torch.device) -> None:
    """Raises UserError if train.compile=mode wants a compiler that this machine lacks.

    On a CPU torch.compile writes C++; on a GPU Triton builds a launcher in C for each kernel. CXX and CC come first."""
    if mode == "off":
        return
    variable, language, usual = ("CC", "C", ("gcc", "clang")) if device.type == "cuda" else ("CXX", "C++", ("g++",))
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        raise UserError(f"train.compile={mode}: Triton is not installed; install the package triton, or choose off")
    asked = os.environ.get(variable)
    if not any(shutil.which(name) for name in ((asked,) if asked else usual)):
        what = f"{variable}={asked} is none" if asked else f"there is no {' or '.join(usual)} in PATH"
        raise UserError(
            f"train.compile={mode}: needs a {language} compiler, and {what}; install one (Debian: apt install g++), set "
            f"{variable} to its path, or choose off"
        )


def _check_resolutions(model: nn.Module, option: str, sides: Iterable[int], device: torch.device) -> None:
    """Raises UserError if a model does not take images of each of the sides, in pixels. option: names the model in the error.

    Nothing is tried if there is only one side: models are built for it."""
    sides = sorted(set(sides))
    if len(sides) == 1:
        return
    was_training = model.training
    model.eval()
    for side in sides:
        try:
            _show(model, 1, side, device)
        except (AssertionError, RuntimeError, ValueError) as error:
            raise UserError(
                f"{option}: the run has images of {', '.join(map(str, sides))} pixels, and the model does not take {side} "
                f"({_first_line(error)}); want one resolution for all epochs (data.start_resolution, schedule.stages) and "
                "data.eval_resolution=auto, or another model"
            ) from error
    model.train(was_training)


def _check_single_image(model: nn.Module, piece: int, side: int, device: torch.device) -> None:
    """Raises UserError if a model cannot train on a piece of one image, because of its batch statistics.

    piece: images in the smallest piece of a batch; side: the smallest in pixels. With one image and one pixel a channel has one
    value, and no variance."""
    if piece > 1 or not any(isinstance(module, _BatchNorm) and module.training for module in model.modules()):
        return
    try:
        _show(copy.deepcopy(model), 1, side, device)  # which moves batch statistics
    except ValueError as error:
        raise UserError(
            f"data.batch_size: the model's BatchNorm cannot train on one image, and a piece of a batch has only one "
            f"({_first_line(error)}); want a larger batch, or train.accumulate that divides it into pieces of two or more"
        ) from error


def smallest_piece(batch_size: int, num_pieces: int) -> int:
    """Images in the smallest piece of a batch, by train.accumulate."""
    largest = -(-batch_size // num_pieces)
    return batch_size % largest or largest


@torch.no_grad()
def _show(model: nn.Module, num_images: int, side: int, device: torch.device) -> None:
    model(torch.zeros(num_images, 3, side, side, device=device))


def _first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
