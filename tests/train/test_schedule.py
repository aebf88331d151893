"""Learning rates against timm's schedulers and ffcv-imagenet's interpolation, and the latter's progressive resolution."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from timm.scheduler import CosineLRScheduler, create_scheduler_v2

from deit_fast.config import DataConfig, ModelConfig, OptimConfig, ScheduleConfig
from deit_fast.train import schedule


def _timms_rates(epochs: int, peak: float, config: ScheduleConfig) -> list[float]:
    """The rate of each epoch in DeiT's loop: `scheduler.step(epoch)` stands at the end of the epoch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    scheduler = CosineLRScheduler(
        optimizer,
        t_initial=epochs,
        lr_min=config.min_lr,
        warmup_t=int(config.warmup_epochs),
        warmup_lr_init=config.warmup_lr,
    )
    rates = []
    for epoch in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step(epoch)
    return rates


@pytest.mark.parametrize("epochs", [20, 300])
def test_deit_schedule_is_timms(epochs: int) -> None:
    config = ScheduleConfig()
    ours = [
        schedule.lr_of_step(config, peak=1e-3, epochs=epochs, epoch=epoch, step=7, steps_per_epoch=10)
        for epoch in range(epochs)
    ]
    np.testing.assert_allclose(ours, _timms_rates(epochs, 1e-3, config), rtol=1e-12)
    assert ours[0] == ours[1] == config.warmup_lr


def test_epoch_schedule_is_deits_one_epoch_earlier() -> None:
    deit, epochwise = ScheduleConfig(update="code"), ScheduleConfig(update="epoch")
    for epoch in range(1, 30):
        late = schedule.lr_of_step(deit, peak=1.0, epochs=30, epoch=epoch, step=0, steps_per_epoch=5)
        early = schedule.lr_of_step(epochwise, peak=1.0, epochs=30, epoch=epoch - 1, step=0, steps_per_epoch=5)
        assert late == early


def _timms_rates_of_updates(config: ScheduleConfig, epochs: int, steps_per_epoch: int, peak: float, *, by_epoch: bool) -> Any:
    """The rate of each update as timm's training script sets it: after an update or an epoch, for the next."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)
    scheduler, _ = create_scheduler_v2(
        optimizer,
        sched=config.kind,
        num_epochs=epochs,
        warmup_epochs=int(config.warmup_epochs),
        warmup_lr=config.warmup_lr,
        min_lr=config.min_lr,
        decay_epochs=config.decay_epochs,
        decay_rate=config.decay_rate,
        step_on_epochs=by_epoch,
        updates_per_epoch=steps_per_epoch,
    )
    rates = []
    for update in range(epochs * steps_per_epoch):
        rates.append(optimizer.param_groups[0]["lr"])
        scheduler.step_update(update + 1)
        if (update + 1) % steps_per_epoch == 0:
            scheduler.step((update + 1) // steps_per_epoch)
    return rates


@pytest.mark.parametrize("kind", ["cosine", "step"])
@pytest.mark.parametrize("update", ["epoch", "step"])
@pytest.mark.parametrize("warmup_epochs", [0.0, 5.0])
def test_schedules_are_timms(kind: Any, update: Any, warmup_epochs: float) -> None:
    config = ScheduleConfig(kind=kind, update=update, warmup_epochs=warmup_epochs, decay_epochs=7.0, decay_rate=0.3)
    ours = [
        schedule.lr_of_step(config, peak=1e-3, epochs=30, epoch=epoch, step=step, steps_per_epoch=10)
        for epoch in range(30)
        for step in range(10)
    ]
    np.testing.assert_allclose(ours, _timms_rates_of_updates(config, 30, 10, 1e-3, by_epoch=update == "epoch"), rtol=1e-12)
    if kind == "step":  # drops at epochs 7, 14, 21 and 28, warm-up or not
        assert ours[69] == pytest.approx(1e-3) and ours[70] == pytest.approx(3e-4)
        assert ours[-1] == pytest.approx(1e-3 * 0.3**4)


def test_linear_schedule_is_a_ramp_up_and_down() -> None:
    config = ScheduleConfig(kind="linear", warmup_epochs=2, warmup_lr=0, min_lr=0, update="step")
    times = np.linspace(0, 16, 161)
    ours = [
        schedule.lr_of_step(config, peak=0.5, epochs=16, epoch=int(t), step=round(t % 1 * 10), steps_per_epoch=10)
        for t in np.round(times[:-1], 6)
    ]
    np.testing.assert_allclose(ours, np.interp(times[:-1], [0, 2, 16], [0, 0.5, 0]), atol=1e-12)


def test_linear_schedule_is_ffcv_imagenets_iteration_by_iteration() -> None:
    """libffcv/ffcv-imagenet, train_imagenet.py: rates of whole epochs interpolated over [0, lr_peak_epoch, epochs], from 1e-4
    of the peak, and between two of them over the iterations of an epoch."""
    peak, epochs, steps = 1.7, 16, 7
    config = ScheduleConfig(kind="linear", warmup_epochs=2, warmup_lr=1e-4 * peak, min_lr=0, update="step")
    of_epochs = np.interp(np.arange(epochs + 1), [0, 2, epochs], [1e-4 * peak, peak, 0])
    want = np.linspace(of_epochs[:-1], of_epochs[1:], steps, endpoint=False, axis=1).ravel()
    ours = [
        schedule.lr_of_step(config, peak=peak, epochs=epochs, epoch=epoch, step=step, steps_per_epoch=steps)
        for epoch in range(epochs)
        for step in range(steps)
    ]
    np.testing.assert_allclose(ours, want, rtol=1e-9, atol=1e-12)


def test_peak_is_scaled_by_the_global_batch() -> None:
    assert schedule.peak_lr(OptimConfig(lr=5e-4, lr_batch_size=512), 1024) == pytest.approx(1e-3)
    assert schedule.peak_lr(OptimConfig(lr=0.5, lr_batch_size=None), 1024) == 0.5


def test_resolution_of_ffcv_imagenets_16_epochs() -> None:
    data = DataConfig(start_resolution=160, resolution=192, ramp=(11 / 16, 13 / 16))
    sides = [schedule.resolution_of_epoch(data, epoch=epoch, epochs=16) for epoch in range(16)]
    assert sides == [160] * 12 + [round(176 / 32) * 32] + [192] * 3


def test_resolution_without_a_ramp() -> None:
    data = dataclasses.replace(DataConfig(), resolution=224)
    assert {schedule.resolution_of_epoch(data, epoch=epoch, epochs=3) for epoch in range(3)} == {224}


def test_the_last_epochs_see_all_patches() -> None:
    def lacking(epochs: int, tail: float, rate: float = 0.5) -> int:
        model = ModelConfig(patch_dropout=rate, patch_dropout_tail=tail)
        found = [schedule.leaves_out_patches(model, epoch=epoch, epochs=epochs) for epoch in range(epochs)]
        assert found == sorted(found, reverse=True)
        return sum(found)

    assert (lacking(300, 0.1), lacking(10, 0.1), lacking(10, 0.0)) == (270, 9, 10)
    assert (lacking(1, 0.9), lacking(10, 0.99), lacking(4, 0.1)) == (1, 1, 4)
    assert lacking(10, 0.1, rate=0.0) == 0
