"""Parameter groups against DeiT's rule, the average of the weights and the loss against timm."""

import pytest
import timm
import torch
from timm.loss import SoftTargetCrossEntropy
from timm.utils import ModelEmaV2
from torch import nn

from deit_fast.config import OptimConfig
from deit_fast.train.ema import WeightAverage
from deit_fast.train.loss import soft_cross_entropy
from deit_fast.train.optim import create_optimizer, parameter_groups


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "resnet18"])
def test_groups_of_deits_code(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    decayed, exempt = parameter_groups(model, 0.05)
    assert (decayed["weight_decay"], exempt["weight_decay"]) == (0.05, 0.0)
    names = {id(parameter): key for key, parameter in model.named_parameters()}
    exempt_names = {names[id(parameter)] for parameter in exempt["params"]}
    decayed_names = {names[id(parameter)] for parameter in decayed["params"]}
    assert exempt_names | decayed_names == set(names.values())
    assert not exempt_names & decayed_names
    for key, parameter in model.named_parameters():
        is_vector = parameter.ndim == 1 or key.endswith(".bias") or key in ("pos_embed", "cls_token")
        assert (key in exempt_names) == is_vector
    assert "dist_token" not in exempt_names


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_a_step_equals_pytorchs_plain_optimiser(name: str) -> None:
    torch.manual_seed(0)
    ours, theirs = nn.Linear(5, 3), nn.Linear(5, 3)
    theirs.load_state_dict(ours.state_dict())
    config = OptimConfig(name=name, weight_decay=0.1)  # type: ignore[arg-type]
    groups = [{"params": [theirs.weight], "weight_decay": 0.1}, {"params": [theirs.bias], "weight_decay": 0.0}]
    optimizer = create_optimizer(config, ours, 0.01)
    plain: torch.optim.Optimizer
    if name == "adamw":
        plain = torch.optim.AdamW(groups, lr=0.01, fused=False, foreach=False)
    else:
        plain = torch.optim.SGD(groups, lr=0.01, momentum=0.9, fused=False, foreach=False)
    inputs = torch.randn(4, 5)
    for _ in range(5):
        for model, optim in ((ours, optimizer), (theirs, plain)):
            optim.zero_grad()
            model(inputs).square().sum().backward()
            optim.step()
    torch.testing.assert_close(ours.weight, theirs.weight)
    torch.testing.assert_close(ours.bias, theirs.bias)


def test_average_equals_timms() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    ours, theirs = WeightAverage(model, 0.9, warmup=False), ModelEmaV2(model, decay=0.9)
    for _ in range(100):
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        model(torch.randn(8, 4))
        ours.update()
        theirs.update(model)
    for key, value in theirs.module.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(ours.module.state_dict()[key], value)
    assert int(ours.module.state_dict()["1.num_batches_tracked"]) == 100


def test_average_warms_up() -> None:
    model = nn.Linear(2, 2)
    average = WeightAverage(model, 0.99, warmup=True)
    decays = []
    for _ in range(2000):
        decays.append(average.decay)
        average.update()
    assert decays[0] == pytest.approx(0.1)
    assert decays == sorted(decays)
    assert decays[-1] == 0.99


def test_loss_is_timms() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(6, 11), torch.rand(6, 11).softmax(1)
    torch.testing.assert_close(soft_cross_entropy(logits, targets), SoftTargetCrossEntropy()(logits, targets))
    assert soft_cross_entropy(logits.bfloat16(), targets).dtype == torch.float32
