"""Gradient clipping against timm's and PyTorch's, and Brock et al.'s rule by hand."""

from collections.abc import Iterator
from typing import Any

import pytest
import timm
import torch
from timm.models import model_parameters
from timm.utils import dispatch_clip_grad
from torch import nn

from deit_fast.config import OptimConfig
from deit_fast.train.clip import clip_gradients, clipped_parameters
from tests.model.meta import on_meta

TINY = {"img_size": 32, "patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2, "num_classes": 10}
TIMMS: dict[Any, str] = {"norm": "norm", "value": "value", "adaptive": "agc"}


def _model(name: str = "deit_tiny_distilled_patch16_224") -> nn.Module:
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
    ours, theirs, before = _model(), _model(), _model()
    clip_gradients(OptimConfig(clip=limit, clip_mode=mode), ours.parameters())
    dispatch_clip_grad(theirs.parameters(), limit, mode=TIMMS[mode])
    for a, b in zip(_gradients(ours), _gradients(theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=0)
    is_changed = any(not torch.equal(a, b) for a, b in zip(_gradients(ours), _gradients(before), strict=True))
    assert is_changed == (limit < 1e6)


def test_without_a_limit_nothing_is_clipped() -> None:
    model, before = _model(), _model()
    clip_gradients(OptimConfig(clip=None), model.parameters())
    assert all(torch.equal(a, b) for a, b in zip(_gradients(model), _gradients(before), strict=True))


def test_norm_limits_what_all_have_in_common() -> None:
    model = _model()
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
    model = _model().to("meta")  # tensors without numbers: any read of one raises
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
    model = _model()
    kept = {id(parameter) for parameter in clipped_parameters(OptimConfig(clip=0.1, clip_mode="adaptive"), model)}
    left_out = {name for name, parameter in model.named_parameters() if id(parameter) not in kept}
    assert left_out == {"head.weight", "head.bias", "head_dist.weight", "head_dist.bias"}
    assert len(clipped_parameters(OptimConfig(clip_mode="adaptive"), nn.Linear(2, 2))) == 2
