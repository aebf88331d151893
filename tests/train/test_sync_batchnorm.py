"""Batch normalisation over all ranks: two ranks' outputs and gradients are those of one with both batches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from deit_fast.model.hmlp import HMLPStem
from deit_fast.train.dist import World, joined_world
from deit_fast.train.sync_batchnorm import share_statistics
from tests.train.sessions import Session


def _layers() -> nn.Sequential:
    """Each kind of layer once, with scales and shifts that show, in float64."""
    torch.manual_seed(3)
    layers = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), BatchNormAct2d(6), nn.BatchNorm2d(6, affine=False, momentum=None), nn.Flatten(),
        nn.Linear(96, 5), nn.BatchNorm1d(5), nn.BatchNorm1d(5, track_running_stats=False),
    ).double()  # fmt: skip
    for parameter in layers.parameters():
        nn.init.normal_(parameter, 0.5)
    return layers


def _images() -> torch.Tensor:
    return torch.randn(14, 3, 6, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64) + 0.7


def _results(layers: nn.Module, images: torch.Tensor) -> dict[str, Any]:
    """Of two passes: outputs, running statistics, sums of gradients; and outputs of evaluation."""
    layers.train()
    passes = [layers(part * scale) for part, scale in ((images, 1.0), (images.flip(3), 2.0))]
    sum((output.sin() * output).sum() for output in passes).backward()
    layers.eval()
    grads = {name: parameter.grad for name, parameter in layers.named_parameters()}
    return {
        "passes": torch.stack(passes).detach(),
        "state": layers.state_dict(),
        "grads": grads,
        "eval": layers(images).detach(),
    }


def compute_a_half(words: list[str]) -> None:
    """On one of two ranks. words: the folder of the results."""
    with joined_world("cpu") as world:
        layers = share_statistics(_layers(), "all", world)
        half = _images()[7 * world.rank :][:7]
        torch.save(_results(layers, half), f"{words[0]}/{world.rank}")


def _assert_close(got: Any, wanted: Any) -> None:
    torch.testing.assert_close(got, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.slow
def test_two_ranks_compute_what_one_does(tmp_path: Path) -> None:
    both = Session([str(tmp_path)], tmp_path / "stderr.txt", 2, program=compute_a_half)
    assert both.wait() == 0, both.stderr
    first, second = (torch.load(tmp_path / str(rank)) for rank in range(2))
    wanted = _results(_layers(), _images())
    _assert_close(torch.cat([first["passes"], second["passes"]], dim=1), wanted["passes"])
    _assert_close(first["state"], wanted["state"])
    _assert_close(second["state"], wanted["state"])
    for name, grad in wanted["grads"].items():
        _assert_close(first["grads"][name] + second["grads"][name], grad)
    assert not torch.allclose(first["eval"], first["passes"][0])


def test_which_layers_are_converted() -> None:
    """One rank has nothing to share; of two, an hMLP stem alone is converted unless all are asked for, or none."""
    two = World(0, 2, torch.device("cpu"))
    alone = World(0, 1, torch.device("cpu"))

    def kinds(which: str, world: World) -> list[bool]:
        model = nn.Sequential(HMLPStem(32, 16, embed_dim=8), nn.BatchNorm2d(8), nn.LayerNorm(8))
        names = list(model.state_dict())
        shared = share_statistics(model, which, world)
        assert list(shared.state_dict()) == names
        norms = [module for module in shared.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        return [type(module) is not nn.BatchNorm2d for module in norms]

    cuda = World(0, 2, torch.device("cuda"))  # no layer is on it
    norms = nn.Sequential(nn.BatchNorm2d(8), BatchNormAct2d(8))
    weights = list(norms.parameters())
    shared = share_statistics(norms, "all", cuda)
    assert all(isinstance(layer, nn.SyncBatchNorm) for layer in shared.children())
    assert all(one is other for one, other in zip(shared.parameters(), weights, strict=True))
    assert kinds("auto", two) == [True, True, True, False]
    assert kinds("all", two) == [True] * 4
    assert kinds("off", two) == kinds("all", alone) == [False] * 4
