"""The comparison on photographs: its points are runs, and those of equal cost have as many multiply-adds as the plain one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from deit_fast.benchmarks.gpu.needs import forward_needs
from deit_fast.cli import read_call
from deit_fast.config import RunConfig, SweepConfig, check_training
from deit_fast.config.stages import config_of_stage, stage_ends
from deit_fast.sweep.file import read_sweep_file
from deit_fast.sweep.points import points_of

FILE = Path(__file__).parents[2] / "deit_configs" / "sweeps" / "demo_photos.yaml"


@pytest.fixture(scope="module")
def configs() -> list[RunConfig]:
    given = read_call(["sweep", "--data.train=a", "--data.val=b"]).given
    return [point.config for point in points_of(read_sweep_file(FILE), given, SweepConfig(file=str(FILE)), Path("a"))]


def kind(config: RunConfig) -> str:
    if config.distil.labels:
        return "labels"
    return "stages" if config.schedule.stages else "dropout" if config.model.patch_dropout else "plain"


def multiply_adds(resolution: int, share: float = 1.0) -> int:
    """Of a forward pass of the demonstration's DeiT that leaves out a share of its patches once they are embedded."""
    width, depth, num_classes = 96, 4, 20
    num_patches = (resolution // 16) ** 2
    tokens = int(num_patches * share) + 1
    block = 12 * width**2 * tokens + 2 * tokens**2 * width
    return 3 * 16**2 * width * num_patches + depth * block + width * num_classes


def epochs_at(config: RunConfig) -> list[int]:
    """The resolution of each epoch."""
    ends, stages = stage_ends(config), config.schedule.stages
    starts = [0, *ends[:-1]]
    return [
        config_of_stage(config, stage).data.resolution
        for stage, start, end in zip(stages, starts, ends, strict=True)
        for _ in range(start, end)
    ]


def test_four_kinds_of_three_seeds_on_the_same_views(configs: list[RunConfig]) -> None:
    assert Counter(map(kind, configs)) == dict.fromkeys(("plain", "stages", "dropout", "labels"), 3)
    assert {(kind(config), config.train.seed) for config in configs} == {(kind(c), s) for c in configs for s in range(3)}
    for config in configs:
        check_training(config, world_size=1)
        assert config.view_seed == 0
        assert config.schedule.warmup_epochs / config.train.epochs == pytest.approx(1 / 6, rel=0.01)


def test_equal_cost_is_one_in_multiply_adds(configs: list[RunConfig]) -> None:
    plain = next(config for config in configs if kind(config) == "plain")
    assert multiply_adds(112) == forward_needs(plain.model, num_classes=20, resolution=112).multiply_adds
    cost = plain.train.epochs * multiply_adds(112)
    for config in configs:
        epochs = config.train.epochs
        if kind(config) == "stages":
            total = sum(map(multiply_adds, epochs_at(config)))
            assert Counter(epochs_at(config)) == {48: 15, 80: 10, 96: 3, 112: 2}
        elif kind(config) == "dropout":
            tail = round(epochs * config.model.patch_dropout_tail)
            total = (epochs - tail) * multiply_adds(112, 1 - config.model.patch_dropout) + tail * multiply_adds(112)
        else:  # the distillation token, one of 51, counts as none
            total = epochs * multiply_adds(112)
        assert total == pytest.approx(cost, rel=0.012)
