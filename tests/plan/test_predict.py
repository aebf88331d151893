"""Seconds of a run from those of its parts: against sums by hand; and what is left of a run that has begun."""

from __future__ import annotations

import dataclasses

import pytest

from deit_fast.plan.outlook import Outlook
from deit_fast.plan.predict import predicted_seconds
from deit_fast.plan.probe import Measured, Steps, resolutions_to_measure
from deit_fast.plan.run_counts import counts_of, stages_by_shape
from deit_fast.record.clock import KINDS
from tests.plan.made_up import always, probes
from tests.tiny_runs import with_options

PROBES = probes(wait=0.1)
SHORT = with_options({"train.epochs": 4, "train.eval_every": 2, "data.resolution": 32})
RISING = with_options({"train.epochs": 20, "data.resolution": 192, "data.start_resolution": 128, "data.ramp": (0.0, 1.0)})


def test_epochs_evaluations_and_checkpoints_are_counted() -> None:
    config = with_options({"train.epochs": 10, "train.eval_every": 4, "train.checkpoint_every": 3, "train.checkpoint_steps": 5})
    counts = counts_of(config, 11)
    assert (counts.epochs, counts.num_evaluations) == (10, 3)  # after 4, 8, 10
    assert counts.num_checkpoints == 4 + 10 * 2  # after 3, 6, 9, 10, and steps 5 and 10 of each
    assert counts_of(config, 11, first_epoch=8).num_evaluations == 1
    sides = counts_of(RISING, 1).epochs_at
    assert sorted(sides) == [128, 160, 192]
    assert sum(sides.values()) == 20


def test_a_run_is_the_sum_of_its_parts_and_of_their_scatter() -> None:
    seconds, error = predicted_seconds(counts_of(SHORT, 10), PROBES, setup=3.0)
    assert list(seconds) == list(KINDS)
    training = {"data_wait": 4 * 9 * 0.1 + 3 * 0.5, "compute": 40.0}
    others = {"setup": 3.0, "compile": 2.0 + 5.0 + 3.0, "evaluation": 16.0, "checkpoint": 4 * 0.25 + 1.0, "other": 0.0}
    assert (seconds, error) == (pytest.approx(training | others), 0.0)
    noisy = dataclasses.replace(PROBES, evaluation=Measured((6.0, 8.0)))
    assert predicted_seconds(counts_of(SHORT, 10), noisy, 3.0)[1] == pytest.approx(2 * 1.0)
    assert Measured((4.0,)).error == pytest.approx(0.4)


def test_checkpoints_that_take_longer_than_what_lies_between_are_waited_for() -> None:
    seconds, _ = predicted_seconds(counts_of(SHORT, 10), dataclasses.replace(PROBES, write=100.0), 3.0)
    between = (seconds["compute"] + seconds["data_wait"] + seconds["evaluation"]) / 4
    assert seconds["checkpoint"] == pytest.approx(4 * (0.25 + 100 - between) + 100)


def test_resolutions_between_lie_on_a_line_over_their_pixels() -> None:
    assert resolutions_to_measure({128, 160, 192}) == [192, 128, 160]
    assert resolutions_to_measure({224}) == [224]
    steps = {side: Steps(0.0, always(0.0), always(1e-4 * side**2 + 0.5)) for side in (128, 192)}
    counts = counts_of(RISING, 1)
    wanted = sum(epochs * (1e-4 * side**2 + 0.5) for side, epochs in counts.epochs_at.items())
    seconds, _ = predicted_seconds(counts, dataclasses.replace(PROBES, steps=steps), 0.0)
    assert seconds["compute"] == pytest.approx(wanted)


def test_what_is_left_goes_on_as_the_newest_epochs_did() -> None:
    config = with_options({"train.epochs": 10, "train.eval_every": 5, "data.resolution": 32})
    outlook = Outlook(config, 7)
    spent = dict.fromkeys(KINDS, 0.0) | {"compute": 9.0, "data_wait": 1.0, "checkpoint": 0.5}
    outlook.epoch_done(0, {**spent, "data_wait": 21.0}, False)
    assert not outlook.has_evaluated
    for epoch in range(1, 5):
        outlook.epoch_done(epoch, {**spent, "evaluation": 4.0 if epoch == 4 else 0.0}, epoch == 4)
    left = outlook.left(5)
    assert left["compute"] == pytest.approx(45.0)
    assert left["data_wait"] == pytest.approx(5.0)
    assert left["evaluation"] == pytest.approx(4.0)
    assert left["checkpoint"] == pytest.approx(2.5)
    assert outlook.first_epoch_extra == pytest.approx(20.0)
    assert sum(outlook.left(10).values()) == 0.0


def test_few_epochs_say_little_of_those_to_come() -> None:
    config = with_options({"train.epochs": 100, "data.resolution": 32})
    errors, outlook = [], Outlook(config, 7)
    for epoch, seconds in enumerate((30.0, 10.0, 12.0, 11.0, 10.0, 12.0, 11.0)):
        outlook.epoch_done(epoch, dict.fromkeys(KINDS, 0.0) | {"compute": seconds}, False)
        errors.append(outlook.error)
    assert errors[:3] == pytest.approx([0.2, 0.2, 0.2 / 2**0.5])  # the first is left out as soon as there is another
    assert errors[3] == pytest.approx(1 / 11 / 3**0.5)
    assert errors[-1] < 0.04
    even = Outlook(config, 7)
    for epoch in range(4):
        even.epoch_done(epoch, dict.fromkeys(KINDS, 1.0), False)
    assert even.error == pytest.approx(0.02 / 3**0.5)


def test_epochs_with_all_patches_have_a_price_of_their_own() -> None:
    patches = {"model.patch_dropout": 0.5, "model.patch_dropout_tail": 0.25}
    config = with_options({"train.epochs": 4, "train.eval_every": 2, "data.resolution": 32, **patches})
    counts = counts_of(config, 10)
    assert (counts.epochs_at, counts.tail_at, counts.epochs) == ({32: 3}, {32: 1}, 4)
    assert counts_of(config, 10, first_epoch=3).epochs_at == {}
    measured = dataclasses.replace(PROBES, tail={32: Steps(4.0, always(0.0), always(1.9))})
    plain, _ = predicted_seconds(counts_of(SHORT, 10), PROBES, setup=3.0)
    seconds, _ = predicted_seconds(counts, measured, setup=3.0)
    assert seconds["compute"] == pytest.approx(3 * 10 * 1.0 + 10 * 1.9)
    assert seconds["data_wait"] == pytest.approx(3 * 9 * 0.1 + 3 * 0.5)
    assert seconds["compile"] == pytest.approx(plain["compile"] + 4.0)


def test_epochs_with_all_patches_have_their_own_betons() -> None:
    """Of ten epochs at one resolution the last four see all patches; the small beton is shown in the first eight."""
    stages = ({"data.train": "small", "epochs": 8}, {"epochs": 2})
    patches = {"model.patch_dropout": 0.5, "model.patch_dropout_tail": 0.4, "schedule.stages": stages}
    found = stages_by_shape(with_options({"train.epochs": 10, "data.resolution": 32, "data.train": "large", **patches}))
    shares = {shape: {stage.betons: share for stage, share in of} for shape, of in found.items()}
    assert shares == {(32, False): {"small": 1.0}, (32, True): {"small": 0.5, "large": 0.5}}


def test_what_is_left_counts_the_patches_that_are_seen() -> None:
    config = with_options({"train.epochs": 10, "data.resolution": 32, "model.patch_dropout": 0.5})
    outlook = Outlook(config, 7)
    for epoch in range(5):
        outlook.epoch_done(epoch, dict.fromkeys(KINDS, 0.0) | {"compute": 9.0}, False)
    assert outlook.left(5)["compute"] == pytest.approx(4 * 9.0 + 18.0)
