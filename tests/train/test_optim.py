"""Optimisers, parameter groups and clipping on small models against timm's and PyTorch's; and the rules of papers by hand."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
from timm.models import model_parameters
from timm.optim import create_optimizer_v2, param_groups_layer_decay, param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from timm.utils import dispatch_clip_grad
from torch import nn

from deit_fast.config import OptimConfig, UserError
from deit_fast.train.lamb import Lamb
from deit_fast.train.optim import clip_gradients, clipped_parameters, create_optimizer, parameter_groups, set_lr
from tests.model.meta import on_meta

# no biases of queries, keys and values: a key's bias has no gradient but rounding, which AdamW and LAMB blow up to full steps
TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 10, "qkv_bias": False}
# ours, and the name by which timm knows the same
OPTIMIZERS: list[tuple[dict[str, Any], str]] = [
    ({"name": "adamw"}, "adamw"),
    ({"name": "adamw", "betas": (0.8, 0.95), "eps": 1e-4}, "adamw"),
    ({"name": "sgd"}, "momentum"),
    ({"name": "sgd", "nesterov": True, "momentum": 0.5}, "sgd"),
    ({"name": "lamb"}, "lamb"),
]


def _model(name: str = "deit_tiny_patch16_224") -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, **TINY)
    return model


def _train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        images = torch.randn(4, 3, 32, 32, generator=generator)
        labels = torch.randint(10, (4,), generator=generator)
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()


@pytest.mark.parametrize(("options", "timms_name"), OPTIMIZERS)
def test_20_steps_are_timms(options: dict[str, Any], timms_name: str) -> None:
    ours, theirs, before = _model(), _model(), _model()
    config = OptimConfig(weight_decay=0.1, **options)
    lr = 0.05 if config.name == "sgd" else 2e-3
    _train(ours, create_optimizer(config, ours, lr), range(20))
    timms = create_optimizer_v2(
        theirs, timms_name, lr=lr, weight_decay=0.1, momentum=config.momentum, eps=config.eps, betas=config.betas
    )
    _train(theirs, timms, range(20))
    for (name, a), b, old in zip(ours.named_parameters(), theirs.parameters(), before.parameters(), strict=True):
        moved = (b - old).norm()
        assert moved > 0
        assert (a - b).norm() <= 1e-4 * moved, name


@pytest.mark.parametrize(("options", "timms_name"), OPTIMIZERS)
def test_a_loaded_state_goes_on_bit_for_bit(options: dict[str, Any], timms_name: str) -> None:
    config = OptimConfig(layer_decay=0.5, **options)
    model, resumed = _model(), _model()
    optimizer, other = create_optimizer(config, model, 1e-3), create_optimizer(config, resumed, 1.0)
    _train(model, optimizer, range(3))
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed.load_state_dict(saved["model"])
    other.load_state_dict(saved["optimizer"])
    _train(model, optimizer, range(3, 5))
    _train(resumed, other, range(3, 5))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), resumed.parameters(), strict=True))


def test_names_are_the_optimisers() -> None:
    made = [create_optimizer(OptimConfig(name=name), _model(), 0.1) for name in ("adamw", "sgd", "lamb")]
    assert [type(optimizer) for optimizer in made] == [torch.optim.AdamW, torch.optim.SGD, Lamb]


def _rates(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, float]:
    by_id = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    return {name: by_id[id(parameter)] for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("layer_decay", [1.0, 0.65])
def test_rates_of_layers_are_those_of_timms_scheduler(layer_decay: float) -> None:
    model = _model("deit_tiny_distilled_patch16_224")
    ours = create_optimizer(OptimConfig(layer_decay=layer_decay), model, 1e-3)
    timms = create_optimizer_v2(model, "adamw", lr=1e-3, weight_decay=0.05, layer_decay=layer_decay)
    scheduler = CosineLRScheduler(timms, t_initial=30, lr_min=1e-5, warmup_t=5, warmup_lr_init=1e-6)
    plain = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-3)
    unscaled = CosineLRScheduler(plain, t_initial=30, lr_min=1e-5, warmup_t=5, warmup_lr_init=1e-6)
    for epoch in (0, 3, 20):
        scheduler.step(epoch)
        unscaled.step(epoch)
        set_lr(ours, plain.param_groups[0]["lr"])
        assert _rates(model, ours) == pytest.approx(_rates(model, timms), rel=1e-12)
    if layer_decay < 1:
        assert len(set(_rates(model, ours).values())) == 2 + 2  # embeddings, two blocks, heads


def test_a_new_optimiser_has_the_layers_rates() -> None:
    model = _model()
    rates = _rates(model, create_optimizer(OptimConfig(layer_decay=0.5), model, 0.1))
    assert rates["head.weight"] == pytest.approx(0.1)
    assert rates["pos_embed"] == pytest.approx(0.1 * 0.5**3)


def test_nesterov_wants_a_momentum() -> None:
    with pytest.raises(UserError, match=r"optim\.nesterov=true: wants optim\.momentum above 0, got 0; set"):
        create_optimizer(OptimConfig(name="sgd", nesterov=True, momentum=0.0), nn.Linear(2, 2), 0.1)


MODELS = [*timm.list_models("deit*"), "resnet18", "resnet50", "regnety_160"]


@functools.cache
def _timms(name: str) -> nn.Module:
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
    model = _timms(name)
    timms = _by_name(model, param_groups_weight_decay(model, 0.05, no_weight_decay_list=_timms_list(model)))
    assert _ours(model, no_decay="paper") == timms
    ours = _ours(model, no_decay="code")
    assert ours.keys() == timms.keys()
    differing = {key: (ours[key], timms[key]) for key in timms if ours[key] != timms[key]}
    token = {"dist_token": ((0.05, 1.0), (0.0, 1.0))} if "distilled" in name else {}
    assert differing == token


@pytest.mark.parametrize("name", MODELS)
def test_layer_decay_is_timms(name: str) -> None:
    model = _timms(name)
    timms = param_groups_layer_decay(model, 0.05, no_weight_decay_list=_timms_list(model), layer_decay=0.75)
    assert _ours(model, no_decay="paper", layer_decay=0.75) == _by_name(model, timms)
    assert {group["lr_scale"] for group in timms} >= {1.0, 0.75}


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "deit_base_distilled_patch16_384"])
def test_code_is_the_rule_of_deits_code(name: str) -> None:
    model = _timms(name)
    want = {
        key
        for key, parameter in model.named_parameters()
        if len(parameter.shape) == 1 or key.endswith(".bias") or key in ("pos_embed", "cls_token")
    }
    assert _not_decayed(model) == want


@pytest.mark.parametrize("rule", ["code", "paper"])
def test_resmlp_decays_its_matrices_alone(rule: Any) -> None:
    """In DeiT's resmlp_models.py scales and shifts have one dimension; its author: no decay on them (deit#158)."""
    with on_meta():
        model = timm.create_model("resmlp_12_224")
    matrices = {name for name, parameter in model.named_parameters() if sum(side > 1 for side in parameter.shape) > 1}
    assert _not_decayed(model, no_decay=rule) == {name for name, _ in model.named_parameters()} - matrices
    assert len(matrices) == 1 + 12 * 3 + 1


def test_patterns_of_an_architecture_are_heeded() -> None:
    """XCiT names its position embedding's parameters by a pattern; DeiT's code and timm 0.3.2 knew none."""
    model = _timms("xcit_nano_12_p16_224")
    timms = _by_name(model, param_groups_weight_decay(model, 0.05, no_weight_decay_list=_timms_list(model)))
    assert _ours(model) == timms
    assert timms["pos_embed.token_projection.weight"] == (0.0, 1.0)


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_norms_are_ffcv_imagenets_and_those_of_the_shortcuts(name: str) -> None:
    model = _timms(name)
    by_name = {key for key, _ in model.named_parameters() if "bn" in key}
    shortcuts = {key for key, _ in model.named_parameters() if "downsample.1." in key}
    assert shortcuts
    assert _not_decayed(model, no_decay="norms") == by_name | shortcuts


def test_norms_are_found_by_type_in_other_models() -> None:
    vit = _timms("deit3_small_patch16_224")  # LayerScale's gammas are no normalisation
    assert _not_decayed(vit, no_decay="norms") == {key for key, _ in vit.named_parameters() if "norm" in key}
    regnet = _timms("regnety_160")
    assert _not_decayed(regnet, no_decay="norms") == {key for key, _ in regnet.named_parameters() if ".bn." in key}
    alone = nn.BatchNorm1d(3)
    assert _not_decayed(alone, no_decay="norms") == {"weight", "bias"}


def test_none_decays_all() -> None:
    model = _timms("deit_tiny_distilled_patch16_224")
    assert _not_decayed(model, no_decay="off") == set()
    assert len(parameter_groups(OptimConfig(no_decay="off"), model)) == 1


def test_groups_are_few_and_in_the_models_order() -> None:
    model = _timms("deit_tiny_patch16_224")
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


TIMMS: dict[Any, str] = {"norm": "norm", "value": "value", "adaptive": "agc"}


def _with_gradients(name: str = "deit_tiny_distilled_patch16_224") -> nn.Module:
    """A tiny DeiT with gradients of many sizes; one parameter has none, and one has weights of zero."""
    torch.manual_seed(0)
    model: nn.Module = timm.create_model(name, **TINY)
    for i, parameter in enumerate(model.parameters()):
        parameter.grad = 10.0 ** (i % 5 - 3) * torch.randn_like(parameter)
    model.norm.bias.grad = None  # type: ignore[union-attr]
    nn.init.zeros_(model.head.weight)  # type: ignore[union-attr, arg-type]
    return model


def _gradients(model: nn.Module) -> Iterator[torch.Tensor]:
    return (parameter.grad for parameter in model.parameters() if parameter.grad is not None)


@pytest.mark.parametrize("mode", TIMMS)
@pytest.mark.parametrize("limit", [1e-3, 0.05, 1.0, 1e6])
def test_gradients_are_timms(mode: Any, limit: float) -> None:
    ours, theirs, before = _with_gradients(), _with_gradients(), _with_gradients()
    clip_gradients(OptimConfig(clip=limit, clip_mode=mode), ours.parameters())
    dispatch_clip_grad(theirs.parameters(), limit, mode=TIMMS[mode])
    for a, b in zip(_gradients(ours), _gradients(theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=0)
    is_changed = any(not torch.equal(a, b) for a, b in zip(_gradients(ours), _gradients(before), strict=True))
    assert is_changed == (limit < 1e6)


def test_without_a_limit_nothing_is_clipped() -> None:
    model, before = _with_gradients(), _with_gradients()
    clip_gradients(OptimConfig(clip=None), model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(_gradients(model), _gradients(before), strict=True))


def test_norm_limits_what_all_have_in_common() -> None:
    model = _with_gradients()
    clip_gradients(OptimConfig(clip=0.5), model.parameters())
    assert torch.cat([gradient.flatten() for gradient in _gradients(model)]).norm().item() == pytest.approx(0.5, rel=1e-4)


def test_adaptive_limits_each_unit_by_its_weights() -> None:
    layer = nn.Linear(2, 3)
    layer.weight.data = torch.tensor([[3.0, 4.0], [3.0, 4.0], [0.0, 0.0]])
    layer.weight.grad = torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 2.0]])
    layer.bias.data, layer.bias.grad = torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 8.0, 6.0])
    clip_gradients(OptimConfig(clip=0.1, clip_mode="adaptive"), layer.parameters())
    # limits 0.1 * 5, 0.1 * 5 and 0.1 * 1e-3 for the rows; 0.1 * 1 for the bias, one unit of norm 10
    torch.testing.assert_close(layer.weight.grad, torch.tensor([[0.3, 0.4], [0.3, 0.4], [0.0, 1e-4]]))
    torch.testing.assert_close(layer.bias.grad, torch.tensor([0.0, 0.08, 0.06]))


@pytest.mark.parametrize("mode", TIMMS)
def test_clipping_reads_nothing_from_the_device(mode: Any) -> None:
    model = _with_gradients().to("meta")  # tensors without numbers: any read of one raises
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter)
    clip_gradients(OptimConfig(clip=1.0, clip_mode=mode), model.parameters())


@pytest.mark.parametrize("mode", TIMMS)
def test_a_model_without_gradients(mode: Any) -> None:
    clip_gradients(OptimConfig(clip=1.0, clip_mode=mode), nn.Linear(2, 2).parameters())


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "deit3_small_patch16_224", "resnet18", "regnety_160"])
@pytest.mark.parametrize("mode", TIMMS)
def test_adaptive_leaves_out_what_timms_training_script_does(name: str, mode: Any) -> None:
    with on_meta():
        model = timm.create_model(name)
    ours = clipped_parameters(OptimConfig(clip=0.1, clip_mode=mode), model)
    theirs = list(model_parameters(model, exclude_head=mode == "adaptive"))
    assert [id(parameter) for parameter in ours] == [id(parameter) for parameter in theirs]


def test_both_heads_of_a_distilled_model_are_left_out() -> None:
    model = _with_gradients()
    kept = {id(parameter) for parameter in clipped_parameters(OptimConfig(clip=0.1, clip_mode="adaptive"), model)}
    left_out = {name for name, parameter in model.named_parameters() if id(parameter) not in kept}
    assert left_out == {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}
    assert len(clipped_parameters(OptimConfig(clip_mode="adaptive"), nn.Linear(2, 2))) == 2
