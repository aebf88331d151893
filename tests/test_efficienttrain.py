"""EfficientTrain++'s recipes against its own scripts: stages, steps, magnitudes, learning rates, and compute."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from deit_fast.benchmarks.gpu.needs import forward_needs
from deit_fast.config import ModelConfig, betons_of_stages, check_training, stage_ends, without_betons
from deit_fast.plan.run_counts import counts_of
from deit_fast.train import schedule
from tests.recipe_files import ROOT, config_of, difference

SIDES = [96] * 2 + [160] * 4 + [192] * 2 + [224] * 2
RESNET_SIDES = [96] * 2 + [160] * 4 + [224] * 4
STEPS = 312  # of an epoch of ImageNet: 1,281,167 images in batches of 4096
# what their scripts come to, by hand for two budgets
EPOCHS_200 = [108, 109, 39, 39, 40, 39, 27, 27, 21, 20]
EPOCHS_300 = [163, 163, 59, 59, 59, 58, 41, 41, 30, 30]


def _published(budget: int, sides: list[int]) -> list[tuple[int, int]]:
    """The first and the last epoch of each stage, as _ET_pp_main_deitS.py says it: stage i runs at its own side up to i tenths
    of int(budget (224 / side)^2) epochs, from the place where the one before ended, in epochs of its side."""
    place, before, stages = 0, sides[0], []
    for number, side in enumerate(sides, start=1):
        total = int(budget * (224 * 224) / (side * side))
        place = round(place * before**2 / side**2)
        stages.append((place, int(total / 10 * number)))
        place, before = stages[-1][1], side
    return stages


def _lengths(budget: int, sides: list[int]) -> list[int]:
    return [end - begin for begin, end in _published(budget, sides)]


def test_the_table_by_hand() -> None:
    assert (_lengths(200, SIDES), _lengths(300, SIDES)) == (EPOCHS_200, EPOCHS_300)


@pytest.mark.parametrize(
    ("name", "budget", "sides"),
    [*((f"{size}_{budget}", budget, SIDES) for size in ("small", "tiny") for budget in (100, 150, 200, 300)),
     ("resnet50", 200, RESNET_SIDES)],
)  # fmt: skip
def test_stages_are_the_published_ones(name: str, budget: int, sides: list[int]) -> None:
    config = config_of(f"deit_configs/efficienttrain/efficienttrain_{name}.yaml")
    lengths = _lengths(budget, sides)
    assert np.diff(stage_ends(config), prepend=0).tolist() == lengths
    numbers = np.repeat(np.arange(10), lengths)
    for epoch, number in enumerate(numbers):
        stage = schedule.stage_of_epoch(config, epoch)
        assert (stage.number, stage.resolution) == (number, sides[number])
        assert stage.augment.auto_augment == f"rand-m{number}-mstd0.5-inc1"
    # no stage is further from a tenth of the compute than by whole epochs of its side
    for (begin, end), side in zip(_published(budget, sides), sides, strict=True):
        assert abs((end - begin) - budget / 10 * (224 / side) ** 2) <= 1.5


@pytest.mark.parametrize(("budget", "wanted"), [(200, EPOCHS_200), (300, EPOCHS_300)])
def test_steps_and_learning_rates_are_the_published_ones(budget: int, wanted: list[int]) -> None:
    """Theirs depends on the epoch of a stage's side over the number of such epochs; one epoch of rounding is left."""
    config = config_of(f"deit_configs/efficienttrain/efficienttrain_small_{budget}.yaml")
    assert config.data.batch_size * 8 == 4096
    counts = counts_of(config, 1_281_167 // 4096)
    assert counts.steps_per_epoch == STEPS
    assert counts.epochs == sum(wanted)
    clock, peak, least, epoch = schedule.compute_clock(config), 4e-3, 1e-6, 0
    for (begin, end), side in zip(_published(budget, SIDES), SIDES, strict=True):
        total = int(budget * (224 * 224) / (side * side))
        warmup = int(0.2 * budget * (224 * 224) / (side * side))
        for theirs in range(begin, end):
            share = theirs / warmup if theirs < warmup else (theirs - warmup) / (total - warmup)
            wave = least + 0.5 * (peak - least) * (1 + math.cos(math.pi * share))
            rate = peak * share if theirs < warmup else wave
            ours = schedule.lr_of_step(
                config.schedule, peak=peak, epochs=config.train.epochs, epoch=epoch, step=0, steps_per_epoch=STEPS, clock=clock
            )
            assert ours == pytest.approx(rate, abs=0.025 * peak)
            epoch += 1


def test_the_file_of_the_docs_differs_in_the_betons_of_96_pixels_alone(tmp_path: Path) -> None:
    text = (ROOT / "docs" / "recipes.md").read_text()
    (content,) = re.findall(r"```yaml\n(.*?)```", text.partition("## EfficientTrain++")[2].partition("\n## ")[0], re.DOTALL)
    (tmp_path / "small_first.yaml").write_text(content)
    recipe = "deit_configs/efficienttrain/efficienttrain_small_200.yaml"
    theirs, ours = config_of(recipe), config_of(recipe, str(tmp_path / "small_first.yaml"))
    assert set(difference(ours, theirs)) == {"schedule.stages"}
    assert without_betons(ours.schedule.stages) == list(theirs.schedule.stages)
    betons = [("BETONS_192/train.beton" if side == 96 else "a") for side in SIDES]
    assert betons_of_stages(ours) == betons
    check_training(ours, 8)


def test_options_are_those_of_their_code() -> None:
    base = config_of("deit_configs/efficienttrain/efficienttrain_small_200.yaml")
    changed = difference(base, config_of("deit_configs/deit_small.yaml"))
    changed.pop("schedule.stages")
    assert changed == {
        "data.batch_size": 512, "augment.repeats": 1, "optim.lr": 4e-3,
        "optim.lr_batch_size": None, "optim.clip": 5.0, "schedule.cosine_from": "warmup", "schedule.warmup_lr": 0,
        "schedule.min_lr": 1e-6, "schedule.update": "step", "schedule.warmup_epochs": pytest.approx(0.2 * 469),
        "train.epochs": 469, "train.ema_decay": None,
    }  # fmt: skip
    for budget in (100, 150, 200, 300):
        small, tiny = (
            config_of(f"deit_configs/efficienttrain/efficienttrain_{size}_{budget}.yaml") for size in ("small", "tiny")
        )
        assert small.model.drop_path == pytest.approx(0.1 * budget / 200)
        assert set(difference(tiny, small)) == {"model.name"}
    resnet = config_of("deit_configs/efficienttrain/efficienttrain_resnet50.yaml")
    assert (resnet.model.drop_path, resnet.optim.clip, resnet.train.amp) == (0, None, "off")
    warm = schedule.compute_clock(resnet)(20)  # their warm-up: 20 epochs at 96 pixels
    assert resnet.schedule.warmup_epochs == pytest.approx(warm, rel=0.01)


@pytest.mark.parametrize(("budget", "wanted"), [(100, 0.3265), (150, 0.4865), (200, 0.6519), (300, 0.9747)])
def test_deit_s_costs_a_little_less_than_its_pixels_in_multiply_adds(budget: int, wanted: float) -> None:
    """Published: 0.33, 0.49, 0.66 and 1.0, by pixels. Attention over fewer patches costs less than in proportion."""
    config = config_of(f"deit_configs/efficienttrain/efficienttrain_small_{budget}.yaml")
    model = ModelConfig(name=config.model.name)
    costs = {side: forward_needs(model, num_classes=1000, resolution=side).multiply_adds for side in set(SIDES)}
    epochs_at = counts_of(config, STEPS).epochs_at
    spent = sum(epochs * costs[side] for side, epochs in epochs_at.items())
    pixels = sum(epochs * side**2 for side, epochs in epochs_at.items())
    assert pixels / (300 * 224**2) == pytest.approx(budget / 300, rel=0.01)
    assert spent / (300 * costs[224]) == pytest.approx(wanted, abs=5e-4)
