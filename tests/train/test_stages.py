"""Stages of training: their lengths, learning rates by compute, views, records, and runs that go on exactly."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from deit_fast.config import RunConfig, UserError, check_training, config_of_stage, stage_ends
from deit_fast.data.load.loader import train_loader
from deit_fast.plan.training import train
from deit_fast.teach import teach
from deit_fast.train import schedule
from deit_fast.train.dist import World
from deit_fast.train.low_frequencies import low_frequencies
from deit_fast.train.trainer import Trainer
from tests.teach.teachers import ARCHITECTURE, STUDENT, taught_by, teacher_weights, without_teacher
from tests.tiny_runs import TINY, MakeRun, events_of, with_options

CPU = torch.device("cpu")
SIDES = (96, 96, 160, 160, 160, 160, 192, 192, 224, 224)
STAGES = (
    {"data.resolution": 16, "augment.auto_augment": "rand-m0-mstd0.5-inc1", "augment.erase": 0.0, "augment.mixup": None},
    {"data.resolution": 16, "augment.auto_augment": "rand-m4-mstd0.5-inc1", "augment.cutmix": None},
    {"augment.label_smoothing": 0.0, "augment.mix_probability": 0.5},
)


def _staged(stages: tuple[dict[str, Any], ...], epochs: int, **changes: Any) -> RunConfig:
    paths = {"data.train": "a", "data.val": "b", "schedule.update": "step"}
    return with_options({**paths, "schedule.stages": stages, "train.epochs": epochs, **changes})


def test_stages_of_equal_compute() -> None:
    """By hand: at half the side an epoch costs a quarter."""
    config = _staged(({"data.resolution": 112}, {}), 10)
    assert stage_ends(config) == [8, 10]
    assert [stage.resolution for stage in schedule.stages_of(config)] == [112] * 8 + [224] * 2
    assert [schedule.stage_of_epoch(config, epoch) for epoch in range(10)] == schedule.stages_of(config)
    thirds = _staged(({"share": 1, "data.resolution": 112}, {"share": 2}), 12)
    assert stage_ends(thirds) == [8, 12]
    assert stage_ends(_staged(({"epochs": 3}, {"epochs": 1, "data.resolution": 96}), 8)) == [6, 8]


@pytest.mark.parametrize("epochs", [234, 469, 703])
def test_every_stage_of_ten_takes_a_tenth_of_the_compute(epochs: int) -> None:
    config = _staged(tuple({"data.resolution": side} for side in SIDES), epochs)
    costs = [stage.resolution**2 for stage in schedule.stages_of(config)]
    ends = stage_ends(config)
    for number, (begin, end) in enumerate(itertools.pairwise([0, *ends])):
        off = sum(costs[begin:end]) - sum(costs) / 10
        assert abs(off) <= SIDES[number] ** 2 + SIDES[max(0, number - 1)] ** 2  # both ends are rounded to whole epochs


def test_the_learning_rate_follows_compute() -> None:
    """Half the compute is done after 8 of 10 epochs: there the rate is that of half a plain run."""
    options: dict[str, Any] = {"schedule.warmup_epochs": 2.0, "schedule.cosine_from": "warmup"}
    config = _staged(({"data.resolution": 112}, {}), 10, **options)
    clock = schedule.compute_clock(config)
    assert [clock(time) for time in (0, 4, 8, 9, 9.5, 10)] == pytest.approx([0, 2.5, 5, 7.5, 8.75, 10])
    rate = functools.partial(schedule.lr_of_step, config.schedule, peak=1.0, epochs=10, steps_per_epoch=4)
    assert rate(epoch=8, step=2, clock=clock) == rate(epoch=6, step=1)  # 6.25 of 10
    plain = _staged((), 10)
    assert schedule.compute_clock(plain)(3.25) == 3.25


def test_a_cosine_from_the_warm_up_starts_at_the_peak() -> None:
    """As in ConvNeXt's and EfficientTrain's `cosine_scheduler`: a line of W values, and half a wave over the others."""
    steps, warmup, epochs, peak, least = 10, 4, 20, 4e-3, 1e-6
    line = np.linspace(0, peak, warmup * steps + 1)[:-1]
    wave = [least + 0.5 * (peak - least) * (1 + np.cos(np.pi * i / (16 * steps))) for i in range(16 * steps)]
    config = with_options(
        {"schedule.warmup_epochs": 4.0, "schedule.warmup_lr": 0.0, "schedule.min_lr": least, "schedule.update": "step",
         "schedule.cosine_from": "warmup"}
    ).schedule  # fmt: skip
    ours = [
        schedule.lr_of_step(config, peak=peak, epochs=epochs, epoch=epoch, step=step, steps_per_epoch=steps)
        for epoch in range(epochs)
        for step in range(steps)
    ]
    np.testing.assert_allclose(ours, [*line, *wave], rtol=1e-9)


@pytest.mark.parametrize(
    ("stages", "changes", "message"),
    [
        (
            ({"optim.lr": 1.0},),
            {},
            r"schedule\.stages: stage 1: optim\.lr is the same in all stages; want epochs, share, data\.",
        ),
        (({}, {"augment.repeats": 1}), {}, r"stage 2: augment\.repeats is the same in all stages"),
        (({"share": 0},), {}, r"stage 1: share=0: want a number above 0"),
        (({"share": 1, "epochs": 1},), {}, "stage 1: has both `epochs` and `share`"),
        (({"epochs": 1}, {}), {}, "some have `epochs` and some have not"),
        (({"data.resolution": 256},), {}, r"stage 1: data\.resolution=256: want at most 224, the run's"),
        (({"augment.erase": 2.0},), {}, r"stage 1: augment\.erase=2\.0: want 0 to 1"),
        (({"augment.erase": "much"},), {}, r"stage 1: augment\.erase='much': want a number"),
        (({"augment.mix_mode": "pair"},), {"data.batch_size": 3}, r"stage 1: data\.batch_size=3: augment\.mix_mode=pair needs"),
        (({"data.resolution": 32}, {}), {"data.start_resolution": 96}, r"data\.start_resolution=96: schedule\.stages say"),
        (({"share": 99}, {}), {}, r"train\.epochs=10: stage 2 of schedule\.stages gets no whole epoch"),
    ],
)
def test_stages_that_cannot_be_are_refused(stages: Any, changes: dict[str, Any], message: str) -> None:
    config = _staged(stages, 10, **changes)
    with pytest.raises(UserError, match=message):
        check_training(config, 1)


def _run(make: MakeRun, folder: Path, **changes: Any) -> RunConfig:
    options = {"model.options": {**TINY, "dynamic_img_size": True}, "data.batch_size": 32, "data.subset": 160}
    stages = {"schedule.stages": STAGES, "train.epochs": 12}
    return make(**{**options, **stages, "augment.flip": 0.5, "run.dir": str(folder), **changes})


@pytest.mark.parametrize("shrink", ["resample", "frequency"])
def test_views_of_an_epoch_are_those_of_its_stage(tiny_run: MakeRun, tmp_path: Path, shrink: str) -> None:
    config = _run(tiny_run, tmp_path / "run", **{"data.shrink": shrink})
    trainer = Trainer(config, World(0, 1, CPU))
    assert stage_ends(config) == [5, 11, 12]
    for epoch, number in ((0, 0), (5, 1), (11, 2), (4, 0)):
        own = config_of_stage(config, STAGES[number])
        side = own.data.resolution
        if shrink == "frequency":
            own = own.changed({"data.resolution": 32})
        loader = train_loader(own.data, own.augment, seed=0, rank=0, world_size=1, device=CPU)
        loader.set_epoch(epoch)
        for batch, wanted in zip(trainer.batches(epoch), loader, strict=True):
            assert torch.equal(batch.images, low_frequencies(wanted.images, side) if shrink == "frequency" else wanted.images)
            assert torch.equal(batch.targets, wanted.targets)
        loader.close()
    trainer.close()


@pytest.mark.slow
@pytest.mark.parametrize("shrink", ["resample", "frequency"])
def test_a_staged_run_goes_on_exactly(tiny_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shrink: str) -> None:
    config = _run(tiny_run, tmp_path / "whole", **{"data.shrink": shrink})
    whole = train(config, [])
    epochs = events_of(tmp_path / "whole", "epoch")
    assert [event["stage"] for event in epochs] == [0] * 5 + [1] * 6 + [2]
    assert [event["resolution"] for event in epochs] == [16] * 11 + [32]
    parts = _run(tiny_run, tmp_path / "parts", **{"data.shrink": shrink, "train.resume": True, "train.checkpoint_steps": 2})
    train_on, calls = Trainer.train_on, iter(range(1, 100))

    def ending(trainer: Trainer, *place: Any) -> None:
        train_on(trainer, *place)
        if next(calls) == 5 * 5 + 3:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_on", ending)
        with pytest.raises(KeyboardInterrupt):
            train(parts, [])
    with pytest.raises(UserError, match=r"of a run with schedule\.stages="):
        train(parts.changed({"schedule.stages": STAGES[:2]}), [])
    assert train(parts, [])["weights_sha256"] == whole["weights_sha256"]


@pytest.mark.slow
@pytest.mark.parametrize("shrink", ["resample", "frequency"])
def test_with_stored_labels_the_weights_are_those_that_the_teacher_gives(
    tiny_run: MakeRun, tmp_path: Path, shrink: str
) -> None:
    config = _run(tiny_run, tmp_path / "run", **{
        **taught_by(teacher_weights(tmp_path)), "model.name": STUDENT, "distil.kind": "hard",
        "distil.teacher_options": ARCHITECTURE, "teach.out": str(tmp_path / "labels.dfl"),
        "schedule.stages": ({**STAGES[0], "epochs": 2}, {**STAGES[2], "epochs": 2}), "train.epochs": 4, "data.shrink": shrink,
    })  # fmt: skip
    with pytest.raises(UserError, match=r"teach\.epochs=1: with schedule\.stages the views"):
        teach(config.changed({"teach.epochs": 1}))
    teach(config)
    stored = without_teacher(config, tmp_path / "labels.dfl")
    live = train(config.changed({"run.dir": str(tmp_path / "live")}), [])
    assert train(stored, [])["weights_sha256"] == live["weights_sha256"]
    other = ({**STAGES[0], "epochs": 1}, {**STAGES[2], "epochs": 3})
    with pytest.raises(UserError, match=r"belongs to schedule\.stages="):
        train(stored.changed({"schedule.stages": other, "run.dir": str(tmp_path / "other")}), [])
