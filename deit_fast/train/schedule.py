"""Learning rate, resolution and patches at each position in training, as pure functions."""

from __future__ import annotations

import math

from deit_fast.config import DataConfig, ModelConfig, OptimConfig, ScheduleConfig

RESOLUTION_STEP = 32  # a rising resolution moves in steps of so many pixels


def peak_lr(optim: OptimConfig, global_batch_size: int) -> float:
    """The learning rate after the warm-up: optim.lr scaled by the global batch (linear scaling, Goyal et al. 2017)."""
    if optim.lr_batch_size is None:
        return optim.lr
    return optim.lr * global_batch_size / optim.lr_batch_size


def lr_at(schedule: ScheduleConfig, *, peak: float, epochs: int, time: float) -> float:
    """Learning rate `time` epochs into training, 0 to epochs: linear warm-up, then the decay by schedule.kind.

    cosine: spans all epochs and is entered where the warm-up ends, as timm's CosineLRScheduler does without `warmup_prefix`.
    linear: falls from the end of the warm-up to min_lr. With update=step this is ffcv-imagenet's interpolation for each
    iteration, which starts at 1e-4 of the peak. step: falls by decay_rate every decay_epochs, counted from the start of
    training, to no lower limit, as timm's create_scheduler_v2 sets its StepLRScheduler up.
    """
    if time < schedule.warmup_epochs:
        return schedule.warmup_lr + time * (peak - schedule.warmup_lr) / schedule.warmup_epochs
    if schedule.kind == "cosine":
        return schedule.min_lr + 0.5 * (peak - schedule.min_lr) * (1.0 + math.cos(math.pi * time / epochs))
    if schedule.kind == "step":
        return peak * schedule.decay_rate ** (time // schedule.decay_epochs)
    fallen = (time - schedule.warmup_epochs) / (epochs - schedule.warmup_epochs)
    return peak + (schedule.min_lr - peak) * fallen


def lr_of_step(schedule: ScheduleConfig, *, peak: float, epochs: int, epoch: int, step: int, steps_per_epoch: int) -> float:
    """Learning rate of step `step` (from 0) of epoch `epoch` (from 0).

    DeiT's code sets the rate at the end of an epoch to the value for that epoch's number, so that the first two epochs both
    run at the start of the warm-up and every later one at the rate of the one before.
    """
    if schedule.update == "step":
        time = epoch + step / steps_per_epoch
    elif schedule.update == "epoch":
        time = float(epoch)
    else:
        time = float(max(epoch - 1, 0))
    return lr_at(schedule, peak=peak, epochs=epochs, time=time)


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
