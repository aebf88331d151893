"""Every recipe, by the command in its header, against what was published of it; docs/recipes.md against the files."""

import dataclasses
import functools
import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from deit_fast.cli import parse
from deit_fast.config import ModelConfig, RunConfig, check_training
from deit_fast.model.create import create_model, num_parameters
from deit_fast.train.schedule import peak_lr, resolution_of_epoch
from tests.model.meta import on_meta

ROOT = Path(__file__).parents[1]
DOCS = (ROOT / "docs/recipes.md").read_text()
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("deit_configs", "rn_configs")
    for path in (ROOT / folder).rglob("*.yaml")
    if path.parent.name != "sweeps"  # many runs each: tests/sweep/test_sweep_file.py
)
BASES = [file for file in FILES if Path(file).name.startswith("base")]
DEMO = "deit_configs/demo.yaml"
RECIPES = [file for file in FILES if file not in (*BASES, DEMO)]
PUBLISHED_TOP1 = r"Published: top-1 ([0-9.]+) %"
CLASSES = {"cifar10": 10, "cifar10_scratch": 10, "cifar100": 100, "flowers102": 102, "cars": 196}
CLASSES |= {"inat2018": 8142, "inat2019": 1010}  # Table 6 of the DeiT paper; every other recipe is for ImageNet's 1000


class Run(NamedTuple):
    """What was published of a recipe: model, parameters in millions, training resolution, global batch, peak rate, epochs."""

    model: str
    millions: float
    resolution: int
    batch: int
    lr: float
    epochs: int


TINY, SMALL, BASE = (f"deit_{size}_patch16_224" for size in ("tiny", "small", "base"))
TINY_2, SMALL_2, BASE_2 = (f"deit_{size}_distilled_patch16_224" for size in ("tiny", "small", "base"))
DEIT = {  # by hand, from DeiT's paper and README, except for rows that the files call chosen
    "deit_tiny": Run(TINY, 5.7, 224, 1024, 1e-3, 300),
    "deit_small": Run(SMALL, 22.1, 224, 1024, 1e-3, 300),
    "deit_base": Run(BASE, 86.6, 224, 1024, 1e-3, 300),
    "deit_base_400_epochs": Run(BASE, 86.6, 224, 1024, 1e-3, 400),
    "deit_base_384": Run("deit_base_patch16_384", 86.9, 384, 512, 5e-6, 30),
    "deit_tiny_distilled": Run(TINY_2, 5.9, 224, 1024, 1e-3, 300),
    "deit_small_distilled": Run(SMALL_2, 22.4, 224, 1024, 1e-3, 300),
    "deit_base_distilled": Run(BASE_2, 87.3, 224, 1024, 1e-3, 300),
    "deit_tiny_distilled_1000_epochs": Run(TINY_2, 5.9, 224, 1024, 1e-3, 1000),
    "deit_small_distilled_1000_epochs": Run(SMALL_2, 22.4, 224, 1024, 1e-3, 1000),
    "deit_base_distilled_1000_epochs": Run(BASE_2, 87.3, 224, 1024, 1e-3, 1000),
    "deit_base_distilled_384": Run("deit_base_distilled_patch16_384", 87.6, 384, 512, 5e-6, 30),
    "deit_base_distilled_384_labels": Run("deit_base_distilled_patch16_384", 87.6, 384, 512, 5e-6, 30),
    "vit_base": Run("vit_base_patch16_224", 86.6, 224, 4096, 3e-3, 300),
    "vit_base_384": Run("vit_base_patch16_384", 86.9, 384, 512, 0.03, 8),
    **{f"table3/{kind}_tiny": Run(TINY, 5.7, 224, 1024, 1e-3, 300) for kind in ("usual", "hard")},
    **{f"table3/{kind}_small": Run(SMALL, 22.1, 224, 1024, 1e-3, 300) for kind in ("usual", "hard")},
    **{f"table3/{kind}_base": Run(BASE, 86.6, 224, 1024, 1e-3, 300) for kind in ("usual", "hard")},
    "table8/sgd": Run(BASE, 86.6, 224, 1024, 0.01, 300),
    **{f"table8/no_{part}": Run(BASE, 86.6, 224, 1024, 1e-3, 300) for part in ("randaugment", "mixup", "cutmix", "erasing")},
    "table8/autoaugment": Run(BASE, 86.6, 224, 1024, 1e-3, 300),
    "table8/no_mixup_no_cutmix": Run(BASE, 86.6, 224, 1024, 1e-3, 300),
    "table8/no_stochastic_depth": Run(BASE, 86.6, 224, 1024, 1e-3, 300),
    "table8/no_repeated_augmentation": Run(BASE, 86.6, 224, 1024, 1e-3, 300),
    "table8/dropout": Run(BASE, 86.6, 224, 1024, 1e-3, 300),
    "table8/sgd_finetuning": Run("deit_base_patch16_384", 86.9, 384, 512, 8e-3, 30),
    "table8/ema_finetuning": Run("deit_base_patch16_384", 86.9, 384, 512, 5e-6, 30),
    # a head has 769 parameters for each class: 85.8 M, and 0.769 M for a thousand
    "transfer/cifar10": Run(BASE, 85.81, 224, 768, 0.01, 1000),
    "transfer/cifar100": Run(BASE, 85.88, 224, 768, 0.01, 1000),
    "transfer/flowers102": Run(BASE, 85.88, 224, 768, 0.01, 1000),
    "transfer/cars": Run(BASE, 85.95, 224, 768, 0.01, 1000),
    "transfer/inat2018": Run(BASE, 92.06, 224, 768, 7.5e-5, 360),
    "transfer/inat2019": Run(BASE, 86.58, 224, 768, 7.5e-5, 360),
    "transfer/cifar10_scratch": Run(BASE, 85.81, 224, 1024, 1e-3, 7200),
    "deit3/deit3_small": Run("deit3_small_patch16_224", 22.1, 224, 2048, 4e-3, 800),
    "deit3/deit3_small_384": Run("deit3_small_patch16_384", 22.2, 384, 512, 1e-5, 20),
    "deit3/deit3_base_192": Run("deit3_base_patch16_224", 86.5, 192, 2048, 3e-3, 800),
    "deit3/deit3_base": Run("deit3_base_patch16_224", 86.6, 224, 512, 1e-5, 20),
    "deit3/deit3_base_384": Run("deit3_base_patch16_384", 86.9, 384, 512, 1e-5, 20),
    "deit3/deit3_large_192": Run("deit3_large_patch16_224", 304.3, 192, 2048, 3e-3, 800),
    "deit3/deit3_large": Run("deit3_large_patch16_224", 304.4, 224, 512, 1e-5, 20),
    "deit3/deit3_large_384": Run("deit3_large_patch16_384", 304.8, 384, 512, 1e-5, 20),
    "deit3/deit3_huge_154": Run("deit3_huge_patch14_224", 632.0, 154, 2048, 3e-3, 800),
    "deit3/deit3_huge": Run("deit3_huge_patch14_224", 632.1, 224, 512, 1e-5, 20),
}
FFCV_EPOCHS = {16: (11, 13), 24: (17, 20), 32: (23, 27), 40: (29, 34), 56: (41, 48), 88: (65, 76)}  # and the ramp, of its YAMLs
CONVNETS = {
    **{f"rn18_{epochs}_epochs": Run("resnet18", 11.7, 192, 1024, 0.5, epochs) for epochs in FFCV_EPOCHS},
    **{f"rn50_{epochs}_epochs": Run("resnet50", 25.6, 192, 4096, 1.7, epochs) for epochs in FFCV_EPOCHS},
    "regnety_4gf": Run("regnety_040", 20.6, 224, 1024, 1e-3, 300),
    "regnety_8gf": Run("regnety_080", 39.2, 224, 1024, 1e-3, 300),
    "regnety_12gf": Run("regnety_120", 51.8, 224, 1024, 1e-3, 300),
    "regnety_16gf": Run("regnety_160", 83.6, 224, 1024, 1e-3, 300),
    "regnety_16gf_384": Run("regnety_160", 83.6, 384, 512, 8e-3, 31),
    "resnet18": Run("resnet18", 11.7, 224, 256, 0.1, 90),
    "resnet50": Run("resnet50", 25.6, 224, 256, 0.1, 90),
    "resnet101": Run("resnet101", 44.5, 224, 256, 0.1, 90),
    "resnet152": Run("resnet152", 60.2, 224, 256, 0.1, 90),
    "resnet50_fixres_384": Run("resnet50", 25.6, 384, 512, 8e-3, 31),
    "efficientnet_b0": Run("efficientnet_b0", 5.3, 224, 1024, 1e-3, 300),
    "efficientnet_b4": Run("efficientnet_b4", 19.3, 380, 1024, 1e-3, 300),
}
PUBLISHED = {f"deit_configs/{name}.yaml": run for name, run in DEIT.items()}
PUBLISHED |= {f"rn_configs/{name}.yaml": run for name, run in CONVNETS.items()}

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


@functools.cache
def _config(*files: str) -> RunConfig:
    """What so many --config-file make up, by paths below the repository."""
    return parse("train", [*(f"--config-file={ROOT / file}" for file in files), "--data.train=a", "--data.val=b"])


def _difference(config: RunConfig, reference: RunConfig) -> dict[str, Any]:
    """The options of config that differ from reference, with their values."""
    ours, theirs = config.as_dict(), reference.as_dict()
    sections = [section for section, options in ours.items() if isinstance(options, dict)]
    pairs = ((section, name) for section in sections for name in ours[section])
    return {f"{s}.{name}": ours[s][name] for s, name in pairs if ours[s][name] != theirs[s][name]}


def _commands(text: str) -> list[list[str]]:
    """Words of each line that starts a command, with the lines that it goes on in."""
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(line) for line in lines if line.strip().startswith(("torchrun ", "deit-fast "))]


def _parsed(words: list[str]) -> tuple[RunConfig, int]:
    """The configuration that a command asks for, and its number of ranks; its files are those of the repository."""
    name = next(word for word in words if word in ("train", "eval"))
    ranks = int(words[words.index("--nproc-per-node") + 1]) if "torchrun" in words else 1
    arguments = words[words.index(name) + 1 :]
    return parse(name, [str(ROOT / word) if word.endswith(".yaml") else word for word in arguments]), ranks


def _header(file: str) -> str:
    lines = (ROOT / file).read_text().splitlines()
    return "\n".join(line[2:] for line in lines if line.startswith("# ")) + "\n"


def _prose(header: str) -> str:
    return " ".join(header.split())


def _name(file: str) -> str:
    return file.removesuffix(".yaml").removeprefix("deit_configs/")


@functools.cache
def _num_parameters(model: str, options: tuple[tuple[str, Any], ...], num_classes: int, resolution: int) -> int:
    with on_meta():
        config = ModelConfig(name=model, options=dict(options), drop_path=0)
        return num_parameters(create_model(config, num_classes=num_classes, resolution=resolution))


def test_every_recipe_is_in_the_table() -> None:
    assert set(RECIPES) == set(PUBLISHED)


@pytest.mark.parametrize("file", RECIPES, ids=_name)
def test_recipe_by_its_header(file: str) -> None:
    """The one command in the header runs this file, on ranks that make the published batch, rate, epochs and model."""
    header = _header(file)
    (command,) = _commands(header)
    assert command[command.index("--config-file") + 1] == file
    config, ranks = _parsed(command)
    check_training(config, ranks)
    assert config.run.dir == f"runs/{file.partition('/')[2].removesuffix('.yaml')}"
    assert re.search(rf"{PUBLISHED_TOP1}|Not published: ", _prose(header))

    run = PUBLISHED[file]
    assert (config.model.name, config.data.resolution, config.train.epochs) == (run.model, run.resolution, run.epochs)
    assert ranks * config.data.batch_size == run.batch
    assert peak_lr(config.optim, run.batch) == pytest.approx(run.lr, rel=1e-9)
    options = tuple(config.model.options.items())
    num_classes = CLASSES.get(Path(file).stem, 1000) if "/transfer/" in file else 1000
    digits = 0.005 if num_classes != 1000 else 0.05
    assert _num_parameters(run.model, options, num_classes, run.resolution) / 1e6 == pytest.approx(run.millions, abs=digits)


@pytest.mark.parametrize("file", BASES, ids=_name)
def test_base_is_extended(file: str) -> None:
    assert _header(file).startswith("Base: ")
    assert not _commands(_header(file))
    path = (ROOT / file).resolve()
    extended = []
    for other in FILES:
        (line,) = re.findall(r"^base: (.*)$", (ROOT / other).read_text(), re.MULTILINE) or [""]
        extended += [((ROOT / other).parent / name).resolve() for name in re.findall(r"[^\s,\[\]]+", line)]
    assert path in extended


def test_demo_is_a_run() -> None:
    assert "deit-fast demo" in _header(DEMO)
    check_training(_config(DEMO), world_size=1)


@pytest.mark.parametrize("name", ["deit_tiny", "deit_small", "deit_base"])
def test_deit_has_table_9s_numbers(name: str) -> None:
    config = _config(f"deit_configs/{name}.yaml")
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
    assert _difference(_config(file), _config(base)) == TABLE_8[row]
    # fine-tuning keeps the change, except that it has an optimiser of its own
    kept = {} if row == "sgd" else TABLE_8[row]
    assert _difference(_config(file, finetune), _config(base, finetune)) == kept


def test_fine_tuning_is_that_of_the_readme() -> None:
    base, at_384 = _config("deit_configs/deit_base.yaml"), _config("deit_configs/deit_base_384.yaml")
    assert _difference(at_384, base) == FINETUNE | {"model.name": "deit_base_patch16_384"}
    distilled = _config("deit_configs/deit_base_distilled_384.yaml")
    assert _difference(distilled, at_384) == {"model.name": "deit_base_distilled_patch16_384", "distil.kind": "hard"}
    labels = _config("deit_configs/deit_base_distilled_384_labels.yaml")
    assert _difference(labels, distilled) == {"distil.kind": "off"}
    ema = _config("deit_configs/table8/ema_finetuning.yaml")
    assert _difference(ema, at_384) == {"model.weights_from": "ema"}
    sgd = {"optim.name": "sgd", "optim.nesterov": True, "optim.lr": 8e-3, "optim.weight_decay": 1e-4}
    assert _difference(_config("deit_configs/table8/sgd_finetuning.yaml"), at_384) == sgd


@pytest.mark.parametrize("size", ["tiny", "small", "base"])
def test_distillation_is_the_papers(size: str) -> None:
    plain = _config(f"deit_configs/deit_{size}.yaml")
    token = _config(f"deit_configs/deit_{size}_distilled.yaml")
    assert _difference(token, plain) == {"model.name": f"deit_{size}_distilled_patch16_224", "distil.kind": "hard"}
    assert (token.distil.teacher, token.distil.alpha) == ("regnety_160", 0.5)
    longer = _config(f"deit_configs/deit_{size}_distilled_1000_epochs.yaml")
    assert _difference(longer, token) == {"train.epochs": 1000}
    assert _difference(_config(f"deit_configs/table3/hard_{size}.yaml"), plain) == {"distil.kind": "hard"}
    soft = {"distil.kind": "soft", "distil.alpha": 0.1, "distil.tau": 3.0, "distil.soft_scale": "paper"}
    assert _difference(_config(f"deit_configs/table3/usual_{size}.yaml"), plain) == soft


@pytest.mark.parametrize("giga", [4, 8, 12, 16])
def test_teacher_is_trained_as_deit(giga: int) -> None:
    difference = _difference(_config(f"rn_configs/regnety_{giga}gf.yaml"), _config("deit_configs/deit_base.yaml"))
    assert difference == {"model.name": f"regnety_{giga * 10:03d}"}


def test_transfer_is_what_its_authors_wrote() -> None:
    base = _config("deit_configs/deit_base.yaml")
    cars, inat = (_config(f"deit_configs/transfer/{name}.yaml") for name in ("cars", "inat2018"))
    shared = {"data.batch_size": 96, "model.weights_from": "model", "optim.lr_batch_size": None}
    assert _difference(inat, base) == shared | {"augment.erase": 0.1, "optim.lr": 7.5e-5, "train.epochs": 360}
    small = {"augment.erase": 0.0, "model.drop_path": 0.0, "train.epochs": 1000}
    sgd = {"optim.name": "sgd", "optim.nesterov": True, "optim.lr": 0.01, "optim.weight_decay": 1e-4}
    seldom = {"train.eval_every": 20, "train.checkpoint_every": 20}
    assert _difference(cars, base) == shared | small | sgd | seldom


def test_vit_has_table_9s_numbers() -> None:
    config = _config("deit_configs/vit_base.yaml")
    augment = config.augment
    assert (config.optim.weight_decay, config.optim.clip, config.schedule.warmup_epochs) == (0.3, 1.0, 3.4)
    assert (config.model.dropout, config.model.drop_path, augment.label_smoothing, augment.repeats) == (0.1, 0, 0, 1)
    assert (augment.auto_augment, augment.mixup, augment.cutmix, augment.erase) == ("", None, None, 0)


@pytest.mark.parametrize(
    ("name", "drop_path"),
    [
        *(("small", 0.05), ("base_192", 0.2), ("large_192", 0.45), ("huge_154", 0.6)),
        *(("base", 0.2), ("large", 0.45), ("huge", 0.55)),
        *(("small_384", 0.0), ("base_384", 0.15), ("large_384", 0.4)),
    ],
)
def test_deit3_has_its_readmes_numbers(name: str, drop_path: float) -> None:
    config = _config(f"deit_configs/deit3/deit3_{name}.yaml")
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


@pytest.mark.parametrize("epochs", FFCV_EPOCHS)
@pytest.mark.parametrize(("depth", "peak", "weight_decay"), [(18, 0.5, 5e-5), (50, 1.7, 1e-4)])
def test_resnet_is_ffcv_imagenets(depth: int, peak: float, weight_decay: float, epochs: int) -> None:
    config = _config(f"rn_configs/rn{depth}_{epochs}_epochs.yaml")
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
    config = _config(f"rn_configs/{name}.yaml")
    assert config.augment.crop == "centre"
    augment = dataclasses.astuple(config.augment)
    assert augment == dataclasses.astuple(_config("rn_configs/resnet50_fixres_384.yaml").augment)
    assert (config.model.trains, config.optim.name, config.optim.weight_decay) == ("norms", "sgd", 1e-4)
    assert (config.schedule.kind, config.schedule.decay_epochs, config.schedule.warmup_epochs) == ("step", 30, 0)


@pytest.mark.parametrize("file", RECIPES, ids=_name)
def test_docs_have_the_recipe_and_its_figure(file: str) -> None:
    lines = [line for line in DOCS.splitlines() if f"`{file}" in line]
    assert lines
    figure = re.search(PUBLISHED_TOP1, _prose(_header(file)))
    if figure:
        assert any(re.search(rf"(?<![0-9.]){re.escape(figure[1])}(?![0-9])", line) for line in lines)


def test_docs_name_only_files_that_are_there() -> None:
    named = set(re.findall(r"(?:deit|rn)_configs/[\w/]+\.yaml", DOCS))
    assert named <= set(FILES)
    assert {DEMO, "deit_configs/base_finetune.yaml", "rn_configs/base_fixres.yaml"} <= named


def test_commands_in_docs_are_ones() -> None:
    """Blocks of shell commands, recipes with options behind them, and what `eval` is told."""
    blocks = "".join(re.findall(r"```sh\n(.*?)```", DOCS, re.DOTALL))
    (run,) = re.findall(r'run="(.*?)"', blocks, re.DOTALL)
    commands = _commands(blocks.replace("$run", run).replace("$heads", "class"))
    cells = re.findall(r"`((?:deit|rn)_configs/[^`]*\.yaml[^`]*)`", DOCS)
    data = ["--data.train=a", "--data.val=b", "--run.dir=c"]
    commands += [
        ["torchrun", "--nproc-per-node", "8", "train", "--config-file", *cell.split(), *data] for cell in cells if " " in cell
    ]
    commands += [["eval", *words.split()] for words in re.findall(r"`eval ([^`]*)`", DOCS)]
    assert len(commands) > 50
    for command in commands:
        config, ranks = _parsed(command)
        if "train" in command:
            check_training(config, ranks)
            assert bool(config.distil.teacher_weights) == (config.distil.kind != "off"), command
            assert bool(config.model.weights) == (config.train.mode == "eval" or config.model.weights_from != "auto"), command
