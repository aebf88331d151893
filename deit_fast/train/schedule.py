"""Learning rate, resolution, augmentation and patches at each position in training, as pure functions."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from deit_fast.config import (
    AugmentConfig,
    DataConfig,
    ModelConfig,
    OptimConfig,
    RunConfig,
    ScheduleConfig,
    config_of_stage,
    stage_ends,
)

RESOLUTION_STEP = 32  # a rising resolution moves in steps of so many pixels


def peak_lr(optim: OptimConfig, global_batch_size: int) -> float:
    """The learning rate after the warm-up: optim.lr scaled by the global batch (linear scaling, Goyal et al. 2017)."""
    if optim.lr_batch_size is None:
        return optim.lr
    return optim.lr * global_batch_size / optim.lr_batch_size


def lr_at(schedule: ScheduleConfig, *, peak: float, epochs: int, time: float) -> float:
    """Learning rate `time` epochs into training, 0 to epochs: linear warm-up, then the decay by schedule.kind.

    cosine: spans all epochs and is entered where the warm-up ends, as timm's CosineLRScheduler does without `warmup_prefix`;
    with cosine_from=warmup it spans the epochs after the warm-up, and starts at the peak.
    linear: falls from the end of the warm-up to min_lr. With update=step this is ffcv-imagenet's interpolation for each
    iteration, which starts at 1e-4 of the peak. step: falls by decay_rate every decay_epochs, counted from the start of
    training, to no lower limit, as timm's create_scheduler_v2 sets its StepLRScheduler up.
    """
    if time < schedule.warmup_epochs:
        return schedule.warmup_lr + time * (peak - schedule.warmup_lr) / schedule.warmup_epochs
    if schedule.kind == "cosine":
        begin = schedule.warmup_epochs if schedule.cosine_from == "warmup" else 0
        share = (time - begin) / (epochs - begin)
        return schedule.min_lr + 0.5 * (peak - schedule.min_lr) * (1.0 + math.cos(math.pi * share))
    if schedule.kind == "step":
        return peak * schedule.decay_rate ** (time // schedule.decay_epochs)
    fallen = (time - schedule.warmup_epochs) / (epochs - schedule.warmup_epochs)
    return peak + (schedule.min_lr - peak) * fallen


def lr_of_step(
    schedule: ScheduleConfig,
    *,
    peak: float,
    epochs: int,
    epoch: int,
    step: int,
    steps_per_epoch: int,
    clock: Callable[[float], float] = float,
) -> float:
    """Learning rate of step `step` (from 0) of epoch `epoch` (from 0). clock: of `compute_clock`, where there are stages.

    DeiT's code sets the rate at the end of an epoch to the value for that epoch's number, so that the first two epochs both
    run at the start of the warm-up and every later one at the rate of the one before.
    """
    if schedule.update == "step":
        time = epoch + step / steps_per_epoch
    elif schedule.update == "epoch":
        time = float(epoch)
    else:
        time = float(max(epoch - 1, 0))
    return lr_at(schedule, peak=peak, epochs=epochs, time=clock(time))


@dataclass(frozen=True)
class Stage:
    """Epochs that share the side of a training view in pixels, its augmentation, and its data. number: from 0."""

    number: int
    resolution: int
    augment: AugmentConfig
    data: DataConfig

    @property
    def betons(self) -> str:
        """What names the betons that views are made from, as data.train does."""
        return self.data.train


def stage_of_epoch(config: RunConfig, epoch: int) -> Stage:
    """The stage of an epoch (from 0): of schedule.stages; without them, of the resolution ramp, if there is one."""
    if config.schedule.stages:
        return numbered_stage(config, bisect.bisect_right(stage_ends(config), epoch))
    resolution = resolution_of_epoch(config.data, epoch=epoch, epochs=config.train.epochs)
    return Stage(0, resolution, config.augment, config.data)


def stages_of(config: RunConfig) -> list[Stage]:
    """The stage of each epoch."""
    if not config.schedule.stages:
        return [stage_of_epoch(config, epoch) for epoch in range(config.train.epochs)]
    ends = stage_ends(config)
    lengths = (end - begin for begin, end in zip([0, *ends], ends, strict=False))
    return [stage for number, length in enumerate(lengths) for stage in [numbered_stage(config, number)] * length]


def numbered_stage(config: RunConfig, number: int) -> Stage:
    """Stage `number` (from 0) of schedule.stages."""
    own = config_of_stage(config, config.schedule.stages[number])
    return Stage(number, own.data.resolution, own.augment, own.data)


def has_changing_views(config: RunConfig) -> bool:
    """Whether the resolution or the augmentation of a run changes with the epoch."""
    return bool(config.schedule.stages) or config.data.start_resolution is not None


def compute_clock(config: RunConfig) -> Callable[[float], float]:
    """A function from the epochs that are done to what they would be if all of the run's epochs took the same compute.

    Compute is counted as views times pixels. Without stages, an epoch is an epoch.
    """
    if not config.schedule.stages:
        return float
    costs = [stage.resolution**2 for stage in stages_of(config)]
    done = [0, *itertools.accumulate(costs)]

    def clock(time: float) -> float:
        epoch = min(int(time), len(costs) - 1)
        return len(costs) * (done[epoch] + (time - epoch) * costs[epoch]) / done[-1]

    return clock


def loaded_resolution(config: RunConfig, stage: Stage) -> int:
    """Side in pixels at which the loader makes the views of a stage, by data.shrink."""
    return config.data.resolution if config.data.shrink == "frequency" else stage.resolution


def resolution_of_epoch(data: DataConfig, *, epoch: int, epochs: int) -> int:
    """Side of a training view in pixels in an epoch: rises linearly over data.ramp in steps of 32, as in ffcv-imagenet."""
    if data.start_resolution is None:
        return data.resolution
    start, end = data.ramp[0] * epochs, data.ramp[1] * epochs
    if epoch <= start:
        return data.start_resolution
    if epoch >= end:
        return data.resolution
    exact = data.start_resolution + (data.resolution - data.start_resolution) * (epoch - start) / (end - start)
    return min(round(exact / RESOLUTION_STEP) * RESOLUTION_STEP, data.resolution)


def leaves_out_patches(model: ModelConfig, *, epoch: int, epochs: int) -> bool:
    """Whether a view of an epoch lacks model.patch_dropout of its patches: not in the tail, which is rounded to whole epochs
    and never all of them."""
    num_tail = min(round(model.patch_dropout_tail * epochs), epochs - 1)
    return model.patch_dropout > 0 and epoch < epochs - num_tail
