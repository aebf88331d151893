"""Parameter groups against timm's, for every DeiT and the convnets that the recipes use; and against DeiT's and
ffcv-imagenet's rules."""

import functools
from typing import Any

import pytest
import timm
from timm.optim import param_groups_layer_decay, param_groups_weight_decay
from torch import nn

from deit_fast.config import OptimConfig, UserError
from deit_fast.train.groups import parameter_groups
from tests.model.meta import on_meta

MODELS = [*timm.list_models("deit*"), "resnet18", "resnet50", "regnety_160"]


@functools.cache
def _model(name: str) -> nn.Module:
    with on_meta():
        model: nn.Module = timm.create_model(name)
    return model


def _by_name(model: nn.Module, groups: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """Weight decay and scale of each parameter; none stands in two groups."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    found = [
        (names[parameter], (group["weight_decay"], group.get("lr_scale", 1.0)))
        for group in groups
        for parameter in group["params"]
    ]
    assert len(found) == len(dict(found))
    return dict(found)


def _ours(model: nn.Module, **options: Any) -> dict[str, tuple[float, float]]:
    return _by_name(model, parameter_groups(OptimConfig(weight_decay=0.05, **options), model))


def _not_decayed(model: nn.Module, **options: Any) -> set[str]:
    return {name for name, (weight_decay, _) in _ours(model, **options).items() if weight_decay == 0}


def _timms_list(model: nn.Module) -> Any:
    declared: Any = getattr(model, "no_weight_decay", set)
    return declared()


def test_every_deit_is_there() -> None:
    assert len(MODELS) >= 16 + 3
    assert {"deit_tiny_distilled_patch16_224", "deit_base_distilled_patch16_384", "deit3_huge_patch14_224"} < set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_decay_is_timms_but_for_the_distillation_token(name: str) -> None:
    model = _model(name)
    timms = _by_name(model, param_groups_weight_decay(model, 0.05, no_weight_decay_list=_timms_list(model)))
    assert _ours(model, no_decay="paper") == timms
    ours = _ours(model, no_decay="code")
    assert ours.keys() == timms.keys()
    differing = {key: (ours[key], timms[key]) for key in timms if ours[key] != timms[key]}
    token = {"dist_token": ((0.05, 1.0), (0.0, 1.0))} if "distilled" in name else {}
    assert differing == token


@pytest.mark.parametrize("name", MODELS)
def test_layer_decay_is_timms(name: str) -> None:
    model = _model(name)
    timms = param_groups_layer_decay(model, 0.05, no_weight_decay_list=_timms_list(model), layer_decay=0.75)
    assert _ours(model, no_decay="paper", layer_decay=0.75) == _by_name(model, timms)
    assert {group["lr_scale"] for group in timms} >= {1.0, 0.75}


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "deit_base_distilled_patch16_384"])
def test_code_is_the_rule_of_deits_code(name: str) -> None:
    model = _model(name)
    want = {
        key
        for key, parameter in model.named_parameters()
        if len(parameter.shape) == 1 or key.endswith(".bias") or key in ("pos_embed", "cls_token")
    }
    assert _not_decayed(model) == want


def test_patterns_of_an_architecture_are_heeded() -> None:
    """XCiT names its position embedding's parameters by a pattern; DeiT's code and timm 0.3.2 knew none."""
    model = _model("xcit_nano_12_p16_224")
    timms = _by_name(model, param_groups_weight_decay(model, 0.05, no_weight_decay_list=_timms_list(model)))
    assert _ours(model) == timms
    assert timms["pos_embed.token_projection.weight"] == (0.0, 1.0)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_norms_are_ffcv_imagenets_and_those_of_the_shortcuts(name: str) -> None:
    model = _model(name)
    by_name = {key for key, _ in model.named_parameters() if "bn" in key}
    shortcuts = {key for key, _ in model.named_parameters() if "downsample.1." in key}
    assert shortcuts
    assert _not_decayed(model, no_decay="norms") == by_name | shortcuts


def test_norms_are_found_by_type_in_other_models() -> None:
    vit = _model("deit3_small_patch16_224")  # LayerScale's gammas are no normalisation
    assert _not_decayed(vit, no_decay="norms") == {key for key, _ in vit.named_parameters() if "norm" in key}
    regnet = _model("regnety_160")
    assert _not_decayed(regnet, no_decay="norms") == {key for key, _ in regnet.named_parameters() if ".bn." in key}
    alone = nn.BatchNorm1d(3)
    assert _not_decayed(alone, no_decay="norms") == {"weight", "bias"}


def test_none_decays_all() -> None:
    model = _model("deit_tiny_distilled_patch16_224")
    assert _not_decayed(model, no_decay="off") == set()
    assert len(parameter_groups(OptimConfig(no_decay="off"), model)) == 1


def test_groups_are_few_and_in_the_models_order() -> None:
    model = _model("deit_tiny_patch16_224")
    assert len(parameter_groups(OptimConfig(), model)) == 2
    assert len(parameter_groups(OptimConfig(weight_decay=0.0), model)) == 1
    order = {parameter: i for i, parameter in enumerate(model.parameters())}
    for group in parameter_groups(OptimConfig(layer_decay=0.5), model):
        assert [order[p] for p in group["params"]] == sorted(order[p] for p in group["params"])


def test_frozen_parameters_are_left_out() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    assert _ours(model) == {"1.weight": (0.05, 1.0), "1.bias": (0.0, 1.0)}
    model.requires_grad_(False)
    with pytest.raises(UserError, match=r"model\.trains: no parameter of Sequential is left to train"):
        parameter_groups(OptimConfig(), model)


class _OneLayer(nn.Linear):
    def group_matcher(self, coarse: bool) -> dict[str, str]:
        return {"stem": "^weight|bias"}


@pytest.mark.parametrize("kind", [nn.Linear, _OneLayer])
def test_layer_decay_wants_layers(kind: type[nn.Linear]) -> None:
    with pytest.raises(UserError, match=r"optim\.layer_decay=0\.7: timm tells no layers of .* apart"):
        parameter_groups(OptimConfig(layer_decay=0.7), kind(2, 2))
    assert parameter_groups(OptimConfig(layer_decay=1.0), kind(2, 2))
