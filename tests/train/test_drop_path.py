"""Stochastic depth: the blocks' drop probabilities against timm's own and DeiT's rule."""

import numpy as np
import pytest
import timm
from torch import nn

from deit_fast.config import ModelConfig
from deit_fast.model.create import create_model
from tests.model.meta import on_meta


def _rates(model: nn.Module) -> list[tuple[float, float]]:
    """Drop probability of the attention's and of the MLP's branch, block by block."""
    return [
        (getattr(block.drop_path1, "drop_prob", 0.0), getattr(block.drop_path2, "drop_prob", 0.0))
        for block in model.blocks  # type: ignore[union-attr]
    ]


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "deit_small_distilled_patch16_224", "deit3_base_patch16_224"])
@pytest.mark.parametrize("drop_path", [0.0, 0.1, 0.55])
def test_rates_rise_linearly_with_depth(name: str, drop_path: float) -> None:
    with on_meta():
        ours = create_model(ModelConfig(name=name, drop_path=drop_path), num_classes=10, resolution=224)
        theirs = timm.create_model(name, drop_path_rate=drop_path)
    rates = _rates(ours)
    assert rates == _rates(theirs)
    # DeiT's models.py, through timm: from 0 at the first block to drop_path at the last, both branches alike
    want = np.linspace(0, drop_path, len(rates))
    np.testing.assert_allclose(rates, np.stack([want, want], axis=1), atol=1e-7)
