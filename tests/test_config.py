"""Defaults, ranges and cross-checks of the configuration."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from deit_fast.config import (
    AugmentConfig,
    DataConfig,
    ModelConfig,
    RunConfig,
    UserError,
    betons_of_stages,
    check_ranges,
    check_training,
    declared,
    eval_batch_size,
    eval_resolution,
    is_mixing,
    set_kind,
    warnings_of,
)

TRAINABLE = RunConfig(data=DataConfig(train="train.beton", val="val.beton"))
SECTIONS = {name: kind for name, kind in get_type_hints(RunConfig).items() if dataclasses.is_dataclass(kind)}
OPTIONS = [(section, field) for section, kind in SECTIONS.items() for field in dataclasses.fields(kind)]
NOT_PATHS = {
    "augment.auto_augment", "bench.against", "bench.choices", "bench.models", "bench.precisions", "bench.work", "budget.until",
    "distil.teacher", "filter.names", "filter.odd", "model.name", "optim.name", "report.published", "report.seeds",
    "report.target", "report.tuned", "slurm.account", "slurm.constraint", "slurm.partition", "slurm.qos",
    "source.image_column", "source.label_column", "sweep.tuned", "write.only",
}  # fmt: skip
UNBOUNDED = {"augment.mean"}  # numbers that may be anything finite, which the reading of options sees to


def changed(path: str, value: Any) -> RunConfig:
    return RunConfig().changed({path: value})


def test_changed_options_are_those_named_and_no_others() -> None:
    config = RunConfig().changed({"train.epochs": 7, "train.seed": 3, "data.val": "a"})
    assert (config.train.epochs, config.train.seed, config.data.val) == (7, 3, "a")
    assert config.changed({"train.epochs": 300, "train.seed": 0, "data.val": ""}) == RunConfig()
    with pytest.raises(TypeError):
        config.changed({"train.epoch": 7})


def test_every_option_says_what_it_means() -> None:
    for section, field in OPTIONS:
        assert field.metadata["help"].strip(), f"{section}.{field.name}"


def test_every_number_has_a_range() -> None:
    numbers = set()
    for path, one in declared().items():
        kind = set_kind(get_args(one.kind)[0]) if get_origin(one.kind) is tuple else one.kind
        if kind in (int, float):
            numbers.add(path)
    assert numbers - UNBOUNDED == {path for path, one in declared().items() if one.within is not None}


def test_every_text_is_a_path_or_known_to_be_none() -> None:
    texts = set()
    for section, field in OPTIONS:
        hint = get_type_hints(SECTIONS[section])[field.name]
        if (hint is str or hint == tuple[str, ...]) and not field.metadata.get("is_path"):
            texts.add(f"{section}.{field.name}")
    assert texts == NOT_PATHS


def test_a_tilde_in_a_path_is_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/deit")
    paths = [(section, field) for section, field in OPTIONS if field.metadata.get("is_path")]
    assert paths
    for section, field in paths:
        is_one = isinstance(field.default, str)
        config = changed(f"{section}.{field.name}", "~/sets/a~{0..1}.tar" if is_one else ("~/a", "b/~", "~"))
        wanted = "/home/deit/sets/a~{0..1}.tar" if is_one else ("/home/deit/a", "b/~", "/home/deit")
        assert getattr(getattr(config, section), field.name) == wanted
    assert RunConfig(out="~/out.json").out == "/home/deit/out.json"
    assert changed("model.name", "~").model.name == "~"


def test_defaults_are_in_range_and_train() -> None:
    check_ranges(RunConfig())
    check_training(TRAINABLE, world_size=8)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("data.batch_size", 0, "data.batch_size=0: want >= 1"),
        ("data.ramp", (0.5, 0.5), "data.ramp=(0.5, 0.5): want 0 <= start < end <= 1"),
        ("augment.crop_scale", (0.5, 0.1), "augment.crop_scale=(0.5, 0.1): want 0 < low <= high <= 1"),
        ("augment.repeats", 256, "augment.repeats=256: want 1 to 255"),
        ("augment.std", (0.1, 0.0, 0.1), "augment.std=(0.1, 0.0, 0.1): want each >= 0.001"),
        ("augment.label_smoothing", 1.0, "augment.label_smoothing=1.0: want 0 up to, not including, 1"),
        ("optim.lr", float("nan"), "optim.lr=nan: want above 0"),
        ("optim.eps", float("inf"), "optim.eps=inf: want above 0"),
        ("train.epochs", 65536, "train.epochs=65536: want 1 to 65535"),
        ("train.seed", -1, "train.seed=-1: want 0 to 2**63 - 1"),
        ("write.jpeg_quality", 101, "write.jpeg_quality=101: want 1 to 100"),
    ],
)
def test_out_of_range_is_named(path: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        check_ranges(changed(path, value))


def test_ranges_of_unused_options_are_not_checked() -> None:
    bad = changed("bench.steps", 0)
    check_ranges(bad, lambda path: not path.startswith("bench."))
    with pytest.raises(UserError, match=r"^bench\.steps=0"):
        check_ranges(bad, lambda path: path == "bench.steps")


@pytest.mark.parametrize(
    ("section", "changes", "message"),
    [
        ("data", {"train": ""}, "data.train is not set"),
        ("data", {"val": ""}, "data.val is not set"),
        ("data", {"dtype": "uint8"}, "data.dtype=uint8: .* want float32"),
        ("optim", {"clip": 0.0}, "optim.clip=0.0: want above 0, or off"),
        ("budget", {"hours": -1.0}, "budget.hours=-1.0: want above 0, or unlimited"),
        ("model", {"weights": None}, "model.weights=None: want text, or off"),
        ("model", {"options": "depth=2"}, "model.options='depth=2': want a dictionary"),
        ("data", {"start_resolution": 256}, "data.start_resolution=256: want .*data.resolution=224"),
        ("train", {"accumulate": 200}, "train.accumulate=200: want at most data.batch_size=128"),
        ("train", {"loss": "bce"}, "augment.label_smoothing=0.1: it makes every target positive, .* want label smoothing 0"),
        ("model", {"patch_dropout": 1.0}, "model.patch_dropout=1.0: want 0 up to, not including, 1"),
        ("optim", {"name": "adamww"}, "optim.name=adamww: want one of adamw, sgd, lamb, or timm:NAME .*nearest: adamw"),
        ("optim", {"options": {"k": 1}}, "optim.options: are for timm:NAME, and optim.name=adamw; leave them out"),
        ("schedule", {"warmup_epochs": 300.0}, "schedule.warmup_epochs=300: want fewer than train.epochs=300"),
    ],
)
def test_sections_that_do_not_fit(section: str, changes: dict[str, Any], message: str) -> None:
    config = replace(TRAINABLE, **{section: replace(getattr(TRAINABLE, section), **changes)})
    with pytest.raises(UserError, match=message):
        check_training(config, world_size=2)


@pytest.mark.parametrize(
    ("augment", "mixes"),
    [
        (AugmentConfig(), True),
        (AugmentConfig(mixup=None), True),
        (AugmentConfig(cutmix=None), True),
        (AugmentConfig(mixup=None, cutmix=None), False),
        (AugmentConfig(mixup=None, cutmix=None, cutmix_minmax=(0.2, 0.5)), True),
        (AugmentConfig(mix_probability=0.0), False),
    ],
)
def test_odd_batches_are_fine_unless_mixed_in_pairs(augment: AugmentConfig, mixes: bool) -> None:
    assert is_mixing(augment) is mixes
    odd = replace(TRAINABLE, augment=augment, data=replace(TRAINABLE.data, batch_size=7))
    check_training(odd, world_size=1)
    in_pairs = replace(odd, augment=replace(augment, mix_mode="pair"))
    if mixes:
        with pytest.raises(UserError, match=r"data\.batch_size=7: .* even batch"):
            check_training(in_pairs, world_size=1)
    else:
        check_training(in_pairs, world_size=1)


@pytest.mark.parametrize(
    ("model", "epochs", "global_batch_size", "warmup_epochs", "is_warned"),
    [
        (ModelConfig("deit_base_patch16_224"), 300, 1024, 5.0, False),
        (ModelConfig("deit_base_patch16_224"), 300, 512, 5.0, True),
        (ModelConfig("deit_base_distilled_patch16_224"), 300, 1024, 10.0, True),
        (ModelConfig("deit_small_patch16_224"), 300, 512, 10.0, False),
        (ModelConfig("deit_base_patch16_384", weights="deit_base.pth"), 30, 512, 5.0, False),
    ],
)
def test_users_of_deit_b_are_warned_of_what_cost_others_accuracy(
    model: ModelConfig, epochs: int, global_batch_size: int, warmup_epochs: float, is_warned: bool
) -> None:
    config = replace(TRAINABLE, model=model)
    config = config.changed({"train.epochs": epochs, "schedule.warmup_epochs": warmup_epochs})
    found = warnings_of(config, global_batch_size)
    assert len(found) == is_warned
    assert all("78 to 79 %" in line for line in found)


def test_cosub_without_stochastic_depth_is_warned_of() -> None:
    config = TRAINABLE.changed({"distil.kind": "cosub"})
    assert warnings_of(config, 1024) == []
    (line,) = warnings_of(config.changed({"model.drop_path": 0.0}), 1024)
    assert "both submodels are the whole model" in line


def test_sizes_of_evaluation_follow_training_unless_set() -> None:
    assert eval_batch_size(DataConfig(batch_size=10)) == 20
    assert eval_batch_size(DataConfig(batch_size=10, eval_batch_size=3)) == 3
    assert eval_resolution(DataConfig(resolution=160)) == 160
    assert eval_resolution(DataConfig(resolution=160, eval_resolution=192)) == 192


def test_as_dict_is_json() -> None:
    plain = json.loads(json.dumps(changed("model.options", {"depth": 2}).as_dict()))
    assert plain["model"]["options"] == {"depth": 2}
    assert plain["augment"]["crop_scale"] == [0.08, 1.0]
    assert set(plain) == {*SECTIONS, "out"}


def test_paths_in_stages_are_text_as_others_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/deit")
    given = {"data.train": Path("~/small.beton"), "data.resolution": 96}
    config = changed("schedule.stages", (given, {"data.train": "~/b,~/c"}, {}))
    plain = json.loads(json.dumps(config.as_dict()))["schedule"]["stages"]
    assert plain == [{"data.train": "/home/deit/small.beton", "data.resolution": 96}, {"data.train": "/home/deit/b,~/c"}, {}]
    assert betons_of_stages(config) == ["/home/deit/small.beton", "/home/deit/b,~/c", ""]
    assert given["data.train"] == Path("~/small.beton")


def test_configurations_are_frozen_and_share_no_mapping() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig().data.batch_size = 1  # type: ignore[misc]
    first, second = ModelConfig(), ModelConfig()
    first.options["depth"] = 2
    assert second.options == {}
