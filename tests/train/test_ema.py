"""The average of the weights against timm's, and that it stays in place."""

import copy

import pytest
import torch
from timm.utils import ModelEma, ModelEmaV3
from torch import nn

from deit_fast.benchmarks.step import Operators
from deit_fast.train.ema import WeightAverage


def _model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))


def _move(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    model(torch.randn(8, 4))  # moves the statistics of the normalisation


@pytest.mark.parametrize("decay", [0.9, 0.99996])
def test_100_updates_are_timms(decay: float) -> None:
    model = _model()
    ours, theirs, deits = (
        WeightAverage(model, decay, warmup=False),
        ModelEmaV3(model, decay=decay),
        ModelEma(model, decay=decay),
    )
    for _ in range(100):
        _move(model)
        ours.update()
        theirs.update(model)
        deits.update(model)
    state = ours.module.state_dict()
    for key, value in theirs.module.state_dict().items():
        torch.testing.assert_close(state[key], value, rtol=1e-6, atol=1e-7)
        if value.is_floating_point():  # what DeiT's code averages with; it averages the count of batches as well
            torch.testing.assert_close(state[key], deits.ema.state_dict()[key], rtol=1e-5, atol=1e-6)
    assert int(state["1.num_batches_tracked"]) == ours.num_updates == 100


def test_warm_up_is_tensorflows() -> None:
    model = _model()
    ours, theirs = WeightAverage(model, 0.9, warmup=True), ModelEmaV3(model)
    decays = []
    for n in range(100):
        _move(model)
        decays.append(ours.decay)
        theirs.decay = min(0.9, (1 + n) / (10 + n))  # tf.train.ExponentialMovingAverage with num_updates
        ours.update()
        theirs.update(model)
    for key, value in theirs.module.state_dict().items():
        torch.testing.assert_close(ours.module.state_dict()[key], value, rtol=1e-6, atol=1e-7)
    assert decays[0] == pytest.approx(0.1) and decays[-1] == 0.9
    assert decays == sorted(decays)


def test_a_reloaded_average_goes_on_bit_for_bit() -> None:
    model = _model()
    ours = WeightAverage(model, 0.9, warmup=True)
    for _ in range(5):
        _move(model)
        ours.update()
    resumed = WeightAverage(copy.deepcopy(model), 0.9, warmup=True)
    resumed.module.load_state_dict(ours.module.state_dict())
    resumed.num_updates = ours.num_updates
    ours.update()
    resumed.update()
    for a, b in zip(ours.module.parameters(), resumed.module.parameters(), strict=True):
        assert torch.equal(a, b)


def test_tensors_stay_the_same_objects() -> None:
    model = _model()
    average = WeightAverage(model, 0.9, warmup=False)
    before = {key: (id(value), value.data_ptr()) for key, value in average.module.state_dict(keep_vars=True).items()}
    weights = {key: value.data_ptr() for key, value in model.state_dict().items()}
    _move(model)
    average.update()
    after = {key: (id(value), value.data_ptr()) for key, value in average.module.state_dict(keep_vars=True).items()}
    assert after == before
    assert not {pointer for _, pointer in after.values()} & set(weights.values())
    assert not average.module.training and model.training
    assert not any(parameter.requires_grad for parameter in average.module.parameters())


def test_a_weight_under_two_names_is_averaged_once() -> None:
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    model[1].weight = model[0].weight
    average = WeightAverage(model, 0.5, warmup=False)
    with torch.no_grad():
        model.get_parameter("0.weight").fill_(1.0)
        average.module.get_parameter("0.weight").fill_(0.0)
    average.update()
    torch.testing.assert_close(average.module.state_dict()["1.weight"], torch.full((2, 2), 0.5))


def test_follows_a_model_whose_memory_format_changes() -> None:
    model = nn.Sequential(nn.Conv2d(4, 4, 3))
    average = WeightAverage(model, 0.5, warmup=False)
    model.to(memory_format=torch.channels_last)
    with torch.no_grad():
        model.get_parameter("0.weight").fill_(1.0)
        average.module.get_parameter("0.weight").fill_(0.0)
    average.update()
    torch.testing.assert_close(average.module.state_dict()["0.weight"], torch.full((4, 4, 3, 3), 0.5))


def test_an_update_reads_nothing_from_the_device() -> None:
    model = _model().to("meta")  # tensors without numbers: any read of one raises
    average = WeightAverage(model, 0.9, warmup=True)
    average.update()
    assert average.num_updates == 1


def test_an_update_is_one_pass_that_rounds_by_half_a_unit_or_little_more() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(30, 40), nn.LayerNorm(40), nn.Linear(40, 5))
    average = WeightAverage(model, 0.99996, warmup=False)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    before = [value.double() for value in average.module.parameters()]
    with Operators() as operators:
        average.update()
    assert operators.names == ["aten::_foreach_lerp_.Scalar"]
    for was, value, now in zip(before, average.module.parameters(), model.parameters(), strict=True):
        exact = 0.99996 * was + (1 - 0.99996) * now.double()
        assert ((value.double() - exact).abs() <= 0.6 * torch.finfo(torch.float32).eps * exact.abs() + 1e-11).all()
