"""The numbers of the recipes of DeiT's successors, and what distillation and fine-tuning change in them."""

from __future__ import annotations

import pytest

from tests.recipe_files import config_of, difference

TEACHER = {"distil.kind": "hard"}  # teacher and weight are the defaults


@pytest.mark.parametrize(
    ("name", "drop_path"),
    [
        *(("small", 0.05), ("base_192", 0.2), ("large_192", 0.45), ("huge_154", 0.6)),
        *(("base", 0.2), ("large", 0.45), ("huge", 0.55)),
        *(("small_384", 0.0), ("base_384", 0.15), ("large_384", 0.4)),
    ],
)
def test_deit3_has_its_readmes_numbers(name: str, drop_path: float) -> None:
    config = config_of(f"deit_configs/deit3/deit3_{name}.yaml")
    augment, optim, train = config.augment, config.optim, config.train
    assert (config.model.drop_path, config.model.drop_path_rates) == (drop_path, "constant")
    assert config.model.options == {"init_values": 1e-4}  # of DeiT's models_v2.py; timm's models have 1e-6
    assert (config.data.eval_crop_ratio, augment.erase, augment.mixup, augment.cutmix) == (1.0, 0, 0.8, 1.0)
    policy = (augment.auto_augment, augment.color_jitter, augment.repeats, augment.label_smoothing)
    if train.epochs == 800:
        assert policy == ("3a", 0.3, 3, 0)
        assert (optim.name, optim.weight_decay, optim.clip) == ("lamb", 0.05, None)
        assert (train.loss, train.bce_threshold) == ("bce", 0)
    else:
        assert policy == ("rand-m9-mstd0.5-inc1", 0, 1, 0.1)
        assert (optim.name, optim.weight_decay, optim.clip) == ("adamw", 0.1, None)
        assert (train.loss, train.mode) == ("ce", "train")


@pytest.mark.parametrize(("size", "drop_path"), [("small", 0.0), ("base_192", 0.1), ("large_192", 0.4), ("huge_154", 0.5)])
def test_deit3_of_400_epochs_has_less_decay_and_stochastic_depth(size: str, drop_path: float) -> None:
    shorter, longer = (config_of(f"deit_configs/deit3/deit3_{size}{end}.yaml") for end in ("_400_epochs", ""))
    assert difference(shorter, longer) == {"model.drop_path": drop_path, "optim.weight_decay": 0.03, "train.epochs": 400}


@pytest.mark.parametrize(
    ("size", "drop_path", "drop_path_1k"),
    [("small", 0.05, 0.05), ("medium", 0.05, 0.1), ("base", 0.1, 0.15), ("large", 0.3, 0.4), ("huge", 0.5, 0.45)],
)
def test_deit3_on_imagenet_21k_has_its_readmes_numbers(size: str, drop_path: float, drop_path_1k: float) -> None:
    first, second = (config_of(f"deit_configs/deit3/deit3_{size}_21k{end}.yaml") for end in ("", "_1k"))
    for config in (first, second):
        augment, optim, train = config.augment, config.optim, config.train
        assert (augment.auto_augment, augment.crop, augment.color_jitter, augment.erase) == ("3a", "simple", 0.3, 0)
        assert (augment.mixup, augment.cutmix, augment.repeats, augment.label_smoothing) == (None, 1.0, 1, 0.1)
        assert (optim.name, optim.weight_decay, optim.lr_batch_size, train.loss) == ("lamb", 0.02, None, "ce")
        assert (config.schedule.warmup_epochs, config.model.drop_path_rates) == (5, "constant")
    stage = {"model.weights_from": "model", "optim.lr": 3e-4, "train.epochs": 50}
    stage |= {} if drop_path == drop_path_1k else {"model.drop_path": drop_path_1k}
    stage |= {"data.resolution": 224} if size == "huge" else {}
    assert (first.model.drop_path, difference(second, first)) == (drop_path, stage)


CAIT = {"xxs24": 0.05, "xxs36": 0.1, "xs24": 0.05, "s24": 0.1, "s36": 0.2, "m36": 0.3, "m48": 0.4}


@pytest.mark.parametrize("size", CAIT)
def test_cait_is_deit_but_for_what_its_paper_says(size: str) -> None:
    cait = config_of(f"deit_configs/cait/cait_{size}.yaml")
    changed = {"model.drop_path": 0.1} | difference(cait, config_of("deit_configs/deit_base.yaml"))
    assert changed == {
        "data.eval_crop_ratio": 1.0,
        "model.name": cait.model.name,
        "model.drop_path": CAIT[size],
        "model.drop_path_rates": "constant",
        "train.epochs": 400,
    }
    side = 448 if size == "m48" else 384
    finer = config_of(f"deit_configs/cait/cait_{size}_{side}.yaml")
    assert (finer.data.resolution, finer.model.name) == (side, f"cait_{size}_{side}")
    assert (finer.optim.lr, finer.optim.lr_batch_size, finer.optim.weight_decay, finer.train.mode) == (
        5e-6,
        None,
        0.05,
        "train",
    )
    assert (finer.schedule.kind, finer.schedule.decay_epochs, finer.schedule.decay_rate) == ("step", 10, 0.5)
    assert finer.augment == cait.augment
    for plain, distilled in ((cait, f"{size}_distilled"), (finer, f"{size}_distilled_{side}")):
        assert difference(config_of(f"deit_configs/cait/cait_{distilled}.yaml"), plain) == TEACHER


@pytest.mark.parametrize(("size", "drop_path"), [("s12", 0.05), ("s24", 0.1), ("s36", 0.2), ("b24", 0.2), ("b24_patch16", 0.2)])
def test_resmlp_is_what_its_author_wrote(size: str, drop_path: float) -> None:
    resmlp = config_of(f"deit_configs/resmlp/resmlp_{size}.yaml")
    changed = {"model.drop_path": 0.1} | difference(resmlp, config_of("deit_configs/deit_base.yaml"))
    assert changed == {
        "data.batch_size": 256,
        "data.eval_crop_ratio": 0.9,
        "model.name": resmlp.model.name,
        "model.drop_path": drop_path,
        "model.drop_path_rates": "constant",
        "optim.name": "lamb",
        "optim.lr": 5e-3,
        "optim.lr_batch_size": None,
        "optim.weight_decay": 0.2,
        "train.epochs": 400,
        "train.amp": "off",
    }
    if size != "b24_patch16":
        assert difference(config_of(f"deit_configs/resmlp/resmlp_{size}_distilled.yaml"), resmlp) == TEACHER


@pytest.mark.parametrize("size", ["small", "medium", "base_192", "large_192", "huge_154"])
def test_cosub_is_deit3_but_for_the_two_submodels(size: str) -> None:
    cosub, deit3 = (config_of(f"deit_configs/{family}/{family}_{size}.yaml") for family in ("cosub", "deit3"))
    assert difference(cosub, deit3) == {"distil.kind": "cosub", "model.drop_path_kind": "skip"}


def test_patchconvnet_is_deit_but_for_what_its_author_wrote() -> None:
    """facebookresearch/deit#185; epochs and stochastic depth are chosen."""
    for size in ("s60", "s120", "b60", "b120", "l60", "l120"):
        config = config_of(f"deit_configs/patchconvnet/patchconvnet_{size}.yaml")
        changed = difference(config, config_of("deit_configs/deit_base.yaml"))
        assert changed == {
            "data.batch_size": 256,
            "model.name": f"patchconvnet_{size}",
            "model.drop_path": config.model.drop_path,
            "model.drop_path_rates": "constant",
            "optim.name": "lamb",
            "optim.lr": 3e-3,
            "optim.lr_batch_size": None,
            "train.epochs": 400,
        }
    whole, multi = (config_of(f"deit_configs/patchconvnet/patchconvnet_{size}.yaml") for size in ("s60", "s60_multi"))
    assert difference(multi, whole) == {"model.name": "patchconvnet_s60_multi"}


@pytest.mark.parametrize(
    ("size", "lr", "drop_path"), [("tiny", 4e-3, 0), ("small", 4e-3, 0.05), ("base", 3e-3, 0.1), ("large", 3e-3, 0.4)]
)
def test_three_things_are_trained_by_a2_with_the_papers_rates(size: str, lr: float, drop_path: float) -> None:
    config = config_of(f"deit_configs/three_things/vit_{size}.yaml")
    augment, optim, train = config.augment, config.optim, config.train
    assert (optim.name, optim.lr, optim.weight_decay, config.model.drop_path) == ("lamb", lr, 0.02, drop_path)
    assert (augment.auto_augment, augment.mixup, augment.cutmix, augment.erase) == ("rand-m7-mstd0.5-inc1", 0.1, 1.0, 0)
    assert (augment.repeats, augment.label_smoothing, train.loss, train.bce_threshold) == (3, 0, "bce", 0.2)
    with_scales = config_of(f"deit_configs/three_things/vit_{size}_ls.yaml")
    assert difference(with_scales, config) == {"model.name": f"deit_{size}_patch16_LS", "train.epochs": 400}


@pytest.mark.parametrize("size", ["small_36", "small_48", "base_36", "base_36_ls"])
def test_parallel_blocks_are_trained_as_the_sequence_of_as_many(size: str) -> None:
    parallel = size.replace("36", "18x2").replace("48", "24x2")
    both = [config_of(f"deit_configs/three_things/vit_{each}.yaml") for each in (parallel, size)]
    assert set(difference(*both)) <= {"model.name", "model.options"}


@pytest.mark.parametrize("size", ["small", "base", "large"])
def test_attention_alone_is_fine_tuned(size: str) -> None:
    config = config_of(f"deit_configs/three_things/vit_{size}_384_attention.yaml")
    assert (config.model.trains, config.data.resolution, config.train.mode) == ("attention", 384, "train")
    assert config.model.drop_path == config_of(f"deit_configs/three_things/vit_{size}_ls.yaml").model.drop_path
