"""Every recipe: its file loads, its model is the one that its name says, and its numbers are the published recipe's."""

from pathlib import Path

import pytest
import torch

from deit_fast.cli import parse
from deit_fast.config import RunConfig, check_training
from deit_fast.model.create import create_model, num_parameters
from deit_fast.train.schedule import peak_lr

ROOT = Path(__file__).parents[1]
RECIPES = sorted(path for folder in ("deit_configs", "rn_configs") for path in (ROOT / folder).glob("*.yaml"))
MILLIONS = {"deit_tiny": 5.7, "deit_small": 22.1, "deit_base": 86.6, "rn18_16_epochs": 11.7}


def _recipe(name: str) -> RunConfig:
    path = next(path for path in RECIPES if path.stem == name)
    return parse("train", [f"--config-file={path}", "--data.train=train.beton", "--data.val=val.beton"])


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_recipe_is_a_run(path: Path) -> None:
    config = parse("train", [f"--config-file={path}", "--data.train=train.beton", "--data.val=val.beton"])
    check_training(config, world_size=8)
    assert path.read_text().startswith("# ")


@pytest.mark.parametrize("name", MILLIONS)
def test_recipe_builds_its_model(name: str) -> None:
    config = _recipe(name)
    with torch.device("meta"):
        model = create_model(config.model, num_classes=1000, resolution=config.data.resolution)
    assert num_parameters(model) / 1e6 == pytest.approx(MILLIONS[name], abs=0.05)


@pytest.mark.parametrize("name", ["deit_tiny", "deit_small", "deit_base"])
def test_deit_recipe_has_the_papers_numbers(name: str) -> None:
    config = _recipe(name)
    assert 8 * config.data.batch_size == 1024
    assert peak_lr(config.optim, 1024) == pytest.approx(1e-3)
    assert (config.train.epochs, config.schedule.warmup_epochs, config.optim.weight_decay) == (300, 5, 0.05)
    assert (config.augment.repeats, config.augment.mixup, config.augment.cutmix) == (3, 0.8, 1.0)
    assert (config.augment.auto_augment, config.augment.erase) == ("rand-m9-mstd0.5-inc1", 0.25)
    assert (config.augment.erase_mode, config.augment.mix_mode, config.augment.color_jitter) == ("pixel", "batch", 0)
    assert (config.augment.label_smoothing, config.model.drop_path, config.train.ema_decay) == (0.1, 0.1, 0.99996)


def test_resnet_recipe_has_ffcv_imagenets_numbers() -> None:
    config = _recipe("rn18_16_epochs")
    assert peak_lr(config.optim, 1024) == 0.5
    assert (config.optim.name, config.optim.momentum, config.optim.weight_decay) == ("sgd", 0.9, 5e-5)
    assert [round(share * 16) for share in config.data.ramp] == [11, 13]
    assert config.model.blurpool
    assert (config.augment.auto_augment, config.augment.erase, config.augment.mixup, config.augment.cutmix) == ("", 0, 0, 0)
    assert config.eval.flip
