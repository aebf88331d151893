"""The numbers of DeiT's and the convnets' recipes, and what a recipe changes in another."""

import dataclasses

import numpy as np
import pytest

from deit_fast.train.schedule import resolution_of_epoch
from tests.recipe_files import FFCV_EPOCHS, config_of, difference

TABLE_8 = {  # the options in which a row differs from deit_base.yaml, and its values: nothing else may differ
    "sgd": {
        "optim.name": "sgd",
        "optim.nesterov": True,
        "optim.lr": 0.01,
        "optim.lr_batch_size": None,
        "optim.weight_decay": 1e-4,
    },
    "no_randaugment": {"augment.auto_augment": ""},
    "autoaugment": {"augment.auto_augment": "original"},
    "no_mixup": {"augment.mixup": None},
    "no_cutmix": {"augment.cutmix": None},
    "no_mixup_no_cutmix": {"augment.mixup": None, "augment.cutmix": None},
    "no_erasing": {"augment.erase": 0.0},
    "no_stochastic_depth": {"model.drop_path": 0.0},
    "no_repeated_augmentation": {"augment.repeats": 1},
    "dropout": {"model.dropout": 0.1},
}
FINETUNE = {  # in which base_finetune.yaml differs from deit_base.yaml
    "data.batch_size": 64,
    "data.resolution": 384,
    "model.weights_from": "model",
    "optim.lr": 5e-6,
    "optim.weight_decay": 1e-8,
    "schedule.min_lr": 5e-6,
    "train.epochs": 30,
    "train.mode": "eval",
}


@pytest.mark.parametrize("name", ["deit_tiny", "deit_small", "deit_base"])
def test_deit_has_table_9s_numbers(name: str) -> None:
    config = config_of(f"deit_configs/{name}.yaml")
    augment, optim, schedule = config.augment, config.optim, config.schedule
    assert (optim.name, optim.weight_decay, optim.clip, optim.no_decay) == ("adamw", 0.05, None, "code")
    assert (schedule.kind, schedule.warmup_epochs, schedule.warmup_lr, schedule.min_lr) == ("cosine", 5, 1e-6, 1e-5)
    assert (augment.repeats, augment.mixup, augment.cutmix, augment.label_smoothing) == (3, 0.8, 1.0, 0.1)
    assert (augment.auto_augment, augment.erase, augment.erase_mode) == ("rand-m9-mstd0.5-inc1", 0.25, "pixel")
    assert (augment.mix_mode, augment.color_jitter, augment.crop) == ("batch", 0, "random")
    assert (config.model.drop_path, config.model.drop_path_rates, config.model.dropout) == (0.1, "linear", 0)
    assert (config.train.ema_decay, config.train.loss, config.train.mode) == (0.99996, "ce", "train")


@pytest.mark.parametrize("row", TABLE_8)
def test_row_of_table_8_changes_what_it_says(row: str) -> None:
    base, finetune, file = "deit_configs/deit_base.yaml", "deit_configs/base_finetune.yaml", f"deit_configs/table8/{row}.yaml"
    assert difference(config_of(file), config_of(base)) == TABLE_8[row]
    # fine-tuning keeps the change, except that it has an optimiser of its own
    kept = {} if row == "sgd" else TABLE_8[row]
    assert difference(config_of(file, finetune), config_of(base, finetune)) == kept


def test_fine_tuning_is_that_of_the_readme() -> None:
    base, at_384 = config_of("deit_configs/deit_base.yaml"), config_of("deit_configs/deit_base_384.yaml")
    assert difference(at_384, base) == FINETUNE | {"model.name": "deit_base_patch16_384"}
    distilled = config_of("deit_configs/deit_base_distilled_384.yaml")
    assert difference(distilled, at_384) == {"model.name": "deit_base_distilled_patch16_384", "distil.kind": "hard"}
    labels = config_of("deit_configs/deit_base_distilled_384_labels.yaml")
    assert difference(labels, distilled) == {"distil.kind": "off"}
    ema = config_of("deit_configs/table8/ema_finetuning.yaml")
    assert difference(ema, at_384) == {"model.weights_from": "ema"}
    sgd = {"optim.name": "sgd", "optim.nesterov": True, "optim.lr": 8e-3, "optim.weight_decay": 1e-4}
    assert difference(config_of("deit_configs/table8/sgd_finetuning.yaml"), at_384) == sgd


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_distillation_is_the_papers(size: str) -> None:
    plain = config_of(f"deit_configs/deit_{size}.yaml")
    token = config_of(f"deit_configs/deit_{size}_distilled.yaml")
    assert difference(token, plain) == {"model.name": f"deit_{size}_distilled_patch16_224", "distil.kind": "hard"}
    assert (token.distil.teacher, token.distil.alpha) == ("regnety_160", 0.5)
    longer = config_of(f"deit_configs/deit_{size}_distilled_1000_epochs.yaml")
    assert difference(longer, token) == {"train.epochs": 1000}
    assert difference(config_of(f"deit_configs/table3/hard_{size}.yaml"), plain) == {"distil.kind": "hard"}
    soft = {"distil.kind": "soft", "distil.alpha": 0.1, "distil.tau": 3.0, "distil.soft_scale": "paper"}
    assert difference(config_of(f"deit_configs/table3/usual_{size}.yaml"), plain) == soft


@pytest.mark.parametrize("giga", [4, 8, 12, 16])
def test_teacher_is_trained_as_deit(giga: int) -> None:
    changed = difference(config_of(f"rn_configs/regnety_{giga}gf.yaml"), config_of("deit_configs/deit_base.yaml"))
    assert changed == {"model.name": f"regnety_{giga * 10:03d}"}


def test_transfer_is_what_its_authors_wrote() -> None:
    base = config_of("deit_configs/deit_base.yaml")
    cars, inat = (config_of(f"deit_configs/transfer/{name}.yaml") for name in ("cars", "inat2018"))
    shared = {"data.batch_size": 96, "model.weights_from": "model", "optim.lr_batch_size": None}
    assert difference(inat, base) == shared | {"augment.erase": 0.1, "optim.lr": 7.5e-5, "train.epochs": 360}
    small = {"augment.erase": 0.0, "model.drop_path": 0.0, "train.epochs": 1000}
    sgd = {"optim.name": "sgd", "optim.nesterov": True, "optim.lr": 0.01, "optim.weight_decay": 1e-4}
    seldom = {"train.eval_every": 20, "train.checkpoint_every": 20}
    assert difference(cars, base) == shared | small | sgd | seldom


def test_vit_has_table_9s_numbers() -> None:
    config = config_of("deit_configs/vit_base.yaml")
    augment = config.augment
    assert (config.optim.weight_decay, config.optim.clip, config.schedule.warmup_epochs) == (0.3, 1.0, 3.4)
    assert (config.model.dropout, config.model.drop_path, augment.label_smoothing, augment.repeats) == (0.1, 0, 0, 1)
    assert (augment.auto_augment, augment.mixup, augment.cutmix, augment.erase) == ("", None, None, 0)


@pytest.mark.parametrize("epochs", FFCV_EPOCHS)
@pytest.mark.parametrize(("depth", "peak", "weight_decay"), [(18, 0.5, 5e-5), (50, 1.7, 1e-4)])
def test_resnet_is_ffcv_imagenets(depth: int, peak: float, weight_decay: float, epochs: int) -> None:
    config = config_of(f"rn_configs/rn{depth}_{epochs}_epochs.yaml")
    optim, schedule, augment = config.optim, config.schedule, config.augment
    assert (optim.name, optim.momentum, optim.nesterov) == ("sgd", 0.9, False)
    assert (optim.weight_decay, optim.no_decay) == (weight_decay, "norms")
    assert (schedule.kind, schedule.warmup_epochs, schedule.min_lr, schedule.update) == ("linear", 2, 0, "step")
    assert schedule.warmup_lr == pytest.approx(1e-4 * peak)
    assert (augment.auto_augment, augment.erase, augment.mixup, augment.cutmix, augment.repeats) == ("", 0, None, None, 1)
    assert (augment.label_smoothing, config.model.blurpool, config.model.drop_path) == (0.1, True, 0)
    assert (config.data.eval_resolution, config.eval.flip) == (256, True)
    resolutions = [resolution_of_epoch(config.data, epoch=epoch, epochs=epochs) for epoch in range(epochs)]
    ramp = np.interp(range(epochs), FFCV_EPOCHS[epochs], [160, 192])
    np.testing.assert_array_equal(resolutions, np.round(ramp / 32).astype(int) * 32)


@pytest.mark.parametrize("name", ["resnet50_fixres_384", "regnety_16gf_384"])
def test_fixres_views_are_evaluations(name: str) -> None:
    config = config_of(f"rn_configs/{name}.yaml")
    assert config.augment.crop == "centre"
    augment = dataclasses.astuple(config.augment)
    assert augment == dataclasses.astuple(config_of("rn_configs/resnet50_fixres_384.yaml").augment)
    assert (config.model.trains, config.optim.name, config.optim.weight_decay) == ("norms", "sgd", 1e-4)
    assert (config.schedule.kind, config.schedule.decay_epochs, config.schedule.warmup_epochs) == ("step", 30, 0)
