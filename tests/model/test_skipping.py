"""Branches that are computed for some samples: the same as all of them masked, at the same draws."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from timm.layers import DropPath
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from deit_fast.config import ModelConfig, UserError
from deit_fast.model import skipping
from deit_fast.model.create import create_model
from deit_fast.model.memory_format import to_channels_last

_RATE = 0.5
_VIT = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "ViT": ("deit_tiny_patch16_224", _VIT),
    "distilled ViT": ("deit_tiny_distilled_patch16_224", _VIT),
    "DeiT III": ("deit_small_patch16_LS", {**_VIT, "init_values": 0.5}),
    "parallel": ("deit_small_patch16_18x2_LS", {**_VIT, "init_values": 0.5}),
    "CaiT": ("cait_xxs24_224", {**_VIT, "init_values": 0.5}),
    "ResMLP": ("resmlp_12_224", {}),
    "Swin": ("swin_tiny_patch4_window7_224", {"embed_dim": 24, "depths": (2, 2), "num_heads": (2, 2), "window_size": 4}),
    "ConvNeXt": ("convnext_tiny", {"depths": (1, 1, 2, 1), "dims": (8, 8, 16, 16), "ls_init_value": 0.5}),
    "PatchConvNet": ("patchconvnet_s60_multi", {"embed_dim": 24, "depth": 4, "init_values": 0.5}),
    "ConvNeXt V2": ("convnextv2_tiny", {"depths": (1, 1, 2, 1), "dims": (8, 8, 16, 16)}),
}


class _Masked(nn.Module):
    """Plain stochastic depth with given draws: a result of 0 for the samples that drop their branch."""

    def __init__(self, draws: list[torch.Tensor]) -> None:
        super().__init__()
        self._draws = draws  # of all branches, in the order of their use

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kept = self._draws.pop(0)
        mask = torch.zeros(len(x)).index_fill_(0, kept, len(x) / len(kept))
        return x * mask.view(-1, *(1,) * (x.ndim - 1))


def _create(name: str, **changes: Any) -> nn.Module:
    """A model of MODELS, every weight of which has a say."""
    known, options = MODELS[name]
    config = ModelConfig(name=known, options=options, drop_path=_RATE, drop_path_rates="constant", **changes)
    torch.manual_seed(0)
    model = create_model(config, num_classes=5, resolution=32)
    for parameter in model.parameters():
        if not parameter.detach().any():
            nn.init.trunc_normal_(parameter, std=0.1)
    return model.train()


def _recorded(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """The draws from now on, as they come."""
    draws: list[torch.Tensor] = []
    draw = skipping.draw_kept

    def recording(*arguments: Any) -> torch.Tensor:
        draws.append(draw(*arguments))
        return draws[-1]

    monkeypatch.setattr(skipping, "draw_kept", recording)
    return draws


def _outputs_and_gradients(model: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    outputs = model(images)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    sum(output.square().sum() for output in outputs).backward()
    found = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert len(found) == len(list(model.parameters()))
    return [*outputs, *found]


@pytest.mark.parametrize("name", MODELS)
def test_skipped_branches_are_masked_ones(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    skips, masks = _create(name, drop_path_kind="skip").double(), _create(name).double()
    assert type(skips) is type(masks)
    masks.load_state_dict(skips.state_dict())
    draws = _recorded(monkeypatch)
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.double)
    ours = _outputs_and_gradients(skips, images)
    assert len(draws) >= 4
    assert all(len(kept) == len(set(kept.tolist())) == 3 for kept in draws)
    given = list(draws)
    for module in masks.modules():
        for part, child in list(module.named_children()):
            if isinstance(child, DropPath):
                setattr(module, part, _Masked(given))
    theirs = _outputs_and_gradients(masks, images)
    assert not given
    for own, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, wanted)


@pytest.mark.parametrize("name", MODELS)
def test_nothing_is_skipped_in_evaluation(name: str) -> None:
    skips, masks = _create(name, drop_path_kind="skip").eval(), _create(name).eval()
    images = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(skips(images), masks(images), rtol=1e-5, atol=1e-6)


def test_half_of_the_branches_is_half_of_the_work() -> None:
    counts = {}
    for kind in ("mask", "skip"):
        config = ModelConfig(
            name="deit_tiny_patch16_224", options=_VIT, drop_path=_RATE, drop_path_rates="constant", drop_path_kind=kind
        )
        model = create_model(config, num_classes=5, resolution=32)
        with FlopCounterMode(display=False) as counter:
            model.train()(torch.randn(8, 3, 32, 32))
        counts[kind] = sum(n for op, n in counter.get_flop_counts()["Global"].items() if "convolution" not in str(op))
    head = 2 * 8 * 24 * 5
    assert counts["skip"] - head == (counts["mask"] - head) / 2


@pytest.mark.parametrize(
    ("samples", "rate", "kept"), [(256, 0.05, 243), (256, 0.0, 256), (8, 0.05, 8), (1, 0.9, 1), (7, 0.5, 4), (10, 0.99, 1)]
)
def test_numbers_of_samples(samples: int, rate: float, kept: int) -> None:
    assert skipping.num_kept(samples, rate) == kept


def test_each_sample_is_as_likely_as_another() -> None:
    """1,000 draws of 3 of 6: each sample 500 times, with a standard deviation of 16."""
    torch.manual_seed(0)
    counts = torch.zeros(6)
    pairs = torch.zeros(6, 6)
    for _ in range(1000):
        kept = torch.zeros(6).index_fill_(0, skipping.draw_kept(6, 3, torch.device("cpu")), 1)
        counts += kept
        pairs += torch.outer(kept, kept)
    assert ((counts - 500).abs() < 5 * 16).all()
    assert ((pairs[~torch.eye(6, dtype=torch.bool)] - 200).abs() < 5 * 13).all()


def test_the_expectation_is_that_of_all_samples() -> None:
    """The mean over many draws comes to x + branch(x)."""
    torch.manual_seed(0)
    x = torch.randn(6, 4)
    drop_path = DropPath(0.3).train()
    found = sum(skipping.add_branch(x, x, lambda part: 2 * part, drop_path) for _ in range(4000)) / 4000
    torch.testing.assert_close(found, 3 * x, rtol=0, atol=0.15)


def test_a_model_whose_blocks_are_unknown_is_refused() -> None:
    for name in ("regnety_002", "efficientnet_b0"):
        config = ModelConfig(name=name, drop_path=0.2, drop_path_kind="skip")
        with pytest.raises(UserError, match=r"drop_path_kind=skip: .* want mask"):
            create_model(config, num_classes=5, resolution=64)


@pytest.mark.parametrize("name", ["ConvNeXt", "PatchConvNet"])
def test_images_stay_in_channels_last_memory(name: str) -> None:
    model = to_channels_last(_create(name, drop_path_kind="skip"))
    images = torch.randn(6, 3, 64, 64).contiguous(memory_format=torch.channels_last)
    assert model.forward_features(images).is_contiguous(memory_format=torch.channels_last)  # type: ignore[operator]


def test_names_of_the_weights_stay() -> None:
    for name in MODELS:
        skips, masks = _create(name, drop_path_kind="skip"), _create(name)
        assert list(skips.state_dict()) == list(masks.state_dict())


def test_compiled_and_copied_models_skip_too() -> None:
    model = _create("ViT", drop_path_kind="skip")
    images = torch.randn(6, 3, 32, 32)
    torch.manual_seed(3)
    wanted = model(images)
    torch.manual_seed(3)
    torch.testing.assert_close(copy.deepcopy(model)(images), wanted)
    compiled: Any = torch.compile(model, backend="eager", dynamic=False, fullgraph=True)
    torch.manual_seed(3)
    torch.testing.assert_close(compiled(images), wanted)
