"""Optimisers on a tiny DeiT against timm's, step by step; and the learning rates of groups against timm's scheduler."""

import io
from typing import Any

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from torch import nn

from deit_fast.config import OptimConfig, UserError
from deit_fast.train.lamb import Lamb
from deit_fast.train.optim import create_optimizer, set_lr

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
