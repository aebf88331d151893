"""LAMB against timm's, over steps with small, large, missing and vanishing gradients; and that its state is whole."""

import copy
import io
from typing import Any

import pytest
import timm
import torch
from timm.optim import Lamb as TimmsLamb
from torch import nn

from deit_fast.config import OptimConfig
from deit_fast.train.lamb import Lamb
from deit_fast.train.optim import parameter_groups

TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 10}
OPTIONS: dict[str, Any] = {"lr": 5e-3, "betas": (0.9, 0.99), "eps": 1e-8}


def _model(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    model: nn.Module = timm.create_model("deit_tiny_patch16_224", **TINY).to(dtype)
    nn.init.zeros_(model.head.weight)  # type: ignore[union-attr, arg-type]  # a trust ratio that has no value
    return model


def _optimizer(kind: type[torch.optim.Optimizer], model: nn.Module) -> torch.optim.Optimizer:
    """Groups with and without decay."""
    return kind(parameter_groups(OptimConfig(weight_decay=0.05), model), **OPTIONS)


def _set_gradients(models: list[nn.Module], step: int) -> None:
    """The same gradients for all models: by step with a common norm far below or far above 1."""
    generator = torch.Generator().manual_seed(step)
    scale = (1e-4, 1e-2, 1.0)[step % 3]
    for i, parameters in enumerate(zip(*(model.parameters() for model in models), strict=True)):
        gradient = scale * (1 + i % 5) * torch.randn(parameters[0].shape, generator=generator, dtype=torch.float64)
        if i == 7:
            gradient.zero_()
        for parameter in parameters:
            parameter.grad = None if (step, i) == (3, 12) else gradient.to(parameter.dtype)


def _distances(ours: nn.Module, theirs: nn.Module) -> list[float]:
    return [
        ((a - b).norm() / b.norm()).item()
        for a, b in zip(ours.parameters(), theirs.parameters(), strict=True)
        if (a != b).any()
    ]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-13)])
def test_steps_are_timms(dtype: torch.dtype, tolerance: float) -> None:
    ours, theirs = _model(dtype), _model(dtype)
    before = copy.deepcopy(ours)
    optimizer, timms = _optimizer(Lamb, ours), _optimizer(TimmsLamb, theirs)
    for step in range(25):
        _set_gradients([ours, theirs], step)
        optimizer.step()
        timms.step()
    assert max(_distances(ours, theirs), default=0.0) < tolerance
    assert min(_distances(ours, before)) > 1e-3


def test_gradients_are_left_alone() -> None:
    model = _model()
    _set_gradients([model], 2)
    before = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    _optimizer(Lamb, model).step()
    assert all(torch.equal(parameter.grad, old) for parameter, old in zip(model.parameters(), before, strict=True))  # type: ignore[arg-type]


def test_a_saved_state_goes_on_bit_for_bit() -> None:
    model = _model()
    optimizer = _optimizer(Lamb, model)
    for step in range(5):
        _set_gradients([model], step)
        optimizer.step()
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = _model()
    resumed.load_state_dict(saved["model"])
    resumed_optimizer = Lamb(parameter_groups(OptimConfig(weight_decay=0.05), resumed), lr=1.0)
    resumed_optimizer.load_state_dict(saved["optimizer"])
    for step in range(5, 10):
        _set_gradients([model, resumed], step)
        optimizer.step()
        resumed_optimizer.step()
    assert _distances(resumed, model) == []


def test_a_step_reads_nothing_from_the_device() -> None:
    """Tensors on "meta" have no numbers: any read of one raises."""
    model = _model().to("meta")
    for parameter in model.parameters():
        parameter.grad = torch.empty_like(parameter)
    optimizer = _optimizer(Lamb, model)
    for _ in range(2):
        optimizer.step()
    with pytest.raises(RuntimeError):
        next(model.parameters()).sum().item()


def test_weights_too_small_for_a_norm_stay_finite() -> None:
    """The norm of the weights is above 0, that of the update, decay alone, is not."""
    weight = nn.Parameter(torch.full((4,), 1e-22))
    weight.grad = torch.zeros(4)
    assert weight.norm() > 0 and (0.05 * weight).norm() == 0
    Lamb([weight], lr=0.1, weight_decay=0.05).step()
    assert torch.isfinite(weight).all()


def test_a_step_without_gradients_changes_nothing() -> None:
    model = _model()
    before = copy.deepcopy(model)
    _optimizer(Lamb, model).step()
    assert _distances(model, before) == []


def test_a_closure_computes_gradients_and_gives_the_loss() -> None:
    layer = nn.Linear(3, 1)
    optimizer = Lamb(layer.parameters(), lr=0.1)
    before = layer.weight.detach().clone()

    def closure() -> float:
        layer(torch.ones(1, 3)).square().sum().backward()
        return 7.0

    assert optimizer.step(closure) == 7.0
    assert not torch.equal(layer.weight, before)
