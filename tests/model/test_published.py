"""Parameters, multiply-adds and logits of each size of DeiT's family against its published figures.

Sources: DeiT's README files (README_revenge, _cait, _resmlp, _patchconvnet), and timm's table
results/benchmark-infer-amp-nhwc-pt240-cu124-rtx3090.csv. Both count with fvcore, which adds five operations for each value that
a layer normalisation gives to the multiply-adds; so do the tests.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from deit_fast.benchmarks.gpu.needs import forward_needs
from deit_fast.config import ModelConfig
from deit_fast.model.create import create_model, num_parameters
from tests.model.meta import on_meta

# name, resolution, millions of parameters, thousands of millions of multiply-adds: as many digits as are published
PUBLISHED = [
    # DeiT III: timm. README_revenge gives the same but for 22.0 M of both S, and 17.5 G of B at 224, which it cuts off
    ("deit_small_patch16_LS", 224, "22", "4.6"),  # README_revenge
    ("deit_small_patch16_LS", 384, "22.21", "15.52"),
    ("deit_base_patch16_LS", 224, "86.59", "17.58"),
    ("deit_base_patch16_LS", 384, "86.88", "55.54"),
    ("deit_large_patch16_LS", 224, "304.37", "61.60"),
    ("deit_large_patch16_LS", 384, "304.76", "191.21"),
    ("deit_huge_patch14_LS", 224, "632.13", "167.40"),
    # Three things: timm's vit_small_patch16_36x1_224, _18x2_224 and vit_base_patch16_18x2_224, which have LayerScale
    ("deit_small_patch16_36_LS", 224, "64.67", "13.71"),
    ("deit_small_patch16_18x2_LS", 224, "64.67", "13.71"),
    ("deit_base_patch16_18x2_LS", 224, "256.73", "52.51"),
    # CaiT: timm; S36, M36 and M48 README_cait
    ("cait_XXS24_224", 224, "11.96", "2.53"),
    ("cait_XXS24", 384, "12.03", "9.63"),
    ("cait_XXS36_224", 224, "17.30", "3.77"),
    ("cait_XXS36", 384, "17.37", "14.35"),
    ("cait_XS24", 384, "26.67", "19.28"),
    ("cait_S24_224", 224, "46.92", "9.35"),
    ("cait_S24", 384, "47.06", "32.17"),
    ("cait_S36", 384, "68", "48.0"),
    ("cait_M36", 384, "271", "173.1"),  # README_cait: 173.3, 0.1 % more than its own code has
    ("cait_M48", 448, "356", "329.4"),  # README_cait: 329.6, 0.1 % more
    # ResMLP: README_resmlp; S36 and B24 timm. README_resmlp gives S36 116 M and 23 G: those of B24 with patches of 16
    ("resmlp_12", 224, "15", "3"),
    ("resmlp_24", 224, "30", "6"),
    ("resmlp_36", 224, "44.69", "8.91"),
    ("resmlpB_24", 224, "129.14", "100.23"),
    ("resmlp_big_24_patch16_224", 224, "116", "23"),
    # PatchConvNet: README_patchconvnet; its table of ImageNet-21k gives 29.8 for B120
    ("S60", 224, "25.2", "4.0"),
    ("S60", 384, "25.2", "11.75"),  # README_patchconvnet: 11.8
    ("S60", 512, "25.2", "20.9"),
    ("S120", 224, "47.7", "7.5"),
    ("B60", 224, "99.4", "15.8"),
    ("B60", 384, "99.4", "46.5"),
    ("B120", 224, "188.6", "29.9"),
    ("B120", 384, "188.6", "87.7"),
    ("S60_multi", 224, "25.6", "5.3"),
]

EVERY_DAY = {"deit_base_patch16_LS", "deit_small_patch16_18x2_LS", "cait_XXS24_224", "resmlp_12", "S60_multi"}


def _count(name: str, resolution: int) -> tuple[int, int]:
    """Parameters of a model for 1000 classes, and operations on one image as fvcore counts them."""
    counts: list[int] = []

    def count(module: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        counts.append(5 * output.numel())

    with on_meta():
        model = create_model(ModelConfig(name=name), num_classes=1000, resolution=resolution).eval().requires_grad_(False)
        for module in model.modules():
            if isinstance(module, nn.LayerNorm):
                module.register_forward_hook(count)
        with FlopCounterMode(display=False) as counter:
            logits = model(torch.empty(1, 3, resolution, resolution))
    assert logits.shape == (1, 1000)
    return sum(value.numel() for value in model.parameters()), counter.get_total_flops() // 2 + sum(counts)


def _is_rounded(value: float, published: str) -> bool:
    digits = len(published.partition(".")[2])
    return abs(value - float(published)) <= 0.5 * 10**-digits + 1e-9


@pytest.mark.parametrize(
    ("name", "resolution", "parameters", "multiply_adds"),
    [pytest.param(*row, marks=() if row[0] in EVERY_DAY else pytest.mark.slow) for row in PUBLISHED],
)
def test_published_figures(name: str, resolution: int, parameters: str, multiply_adds: str) -> None:
    count, operations = _count(name, resolution)
    assert _is_rounded(count / 1e6, parameters)
    assert _is_rounded(operations / 1e9, multiply_adds)


@pytest.mark.parametrize(
    ("name", "width", "depth"), [("L60", 1024, 60), pytest.param("L120", 1024, 120, marks=pytest.mark.slow)]
)
def test_patchconvnets_that_have_no_published_table(name: str, width: int, depth: int) -> None:
    """Counted by hand from patchconvnet_models.py."""
    stem = sum(9 * inputs * outputs for inputs, outputs in ((3, 128), (128, 256), (256, 512), (512, 1024)))
    se = 2 * width * width // 4 + width // 4 + width
    block = 2 * (width**2 + width) + 10 * width + se + 3 * width
    pool = 4 * (width**2 + width) + 6 * width**2 + 4 * width + 6 * width
    wanted = stem + depth * block + pool + width + 2 * width + 1000 * (width + 1)
    with on_meta():
        model = create_model(ModelConfig(name=name), num_classes=1000, resolution=224)
    assert num_parameters(model) == wanted


@pytest.mark.parametrize(("name", "width"), [("deit_tiny_patch16_LS", 192), ("deit_base_patch16_LS", 768)])
def test_hmlp_stem_against_a_linear_one(name: str, width: int) -> None:
    """Three small layers and their normalisations in place of one that sees 16x16x3 numbers."""
    quarter, patches = width // 4, 14**2
    with on_meta():
        plain, hmlp = (
            forward_needs(ModelConfig(name=name, options=options), num_classes=1000, resolution=224)
            for options in ({}, {"embed_layer": "hmlp"})
        )
    layers = 4 * 4 * 3 * quarter + 2 * 2 * quarter**2 + 2 * 2 * quarter * width
    others = 3 * (quarter + quarter + width)  # biases, and two numbers a channel of each normalisation
    assert hmlp.num_parameters - plain.num_parameters == layers + others - (768 * width + width)
    work = (16 * 48 * quarter + 4 * 4 * quarter**2 + 4 * quarter * width - 768 * width) * patches
    assert hmlp.multiply_adds - plain.multiply_adds == work
