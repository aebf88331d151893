"""Files of DeiT's code load, by every name that it has, and compute what their formulas in NumPy give."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from deit_fast.config import ModelConfig, UserError
from deit_fast.model.create import create_model
from deit_fast.model.names import NAMES_OF_DEIT
from deit_fast.model.weights import fit_weights, num_classes_of, weights_of
from tests.model import deit_files, formulas
from tests.model.deit_files import CLASSES, GRID, HEADS, WIDTH
from tests.model.meta import on_meta

Formula = Callable[[dict[str, Any], Any], Any]
VIT: dict[str, Any] = {"embed_dim": WIDTH, "num_heads": HEADS, "depth": 2}


def _case(name: str) -> tuple[deit_files.Shapes, Formula, dict[str, Any]]:
    """Shapes of a file for a small model of a name, its formula, and the model's options."""
    if name.startswith("cait"):
        return deit_files.cait(), partial(formulas.cait, num_heads=HEADS), VIT
    if name.startswith("deit"):
        patch = 14 if "patch14" in name else 16
        branches = 2 if "x2" in name else 1
        shapes = deit_files.vit(patch, branches, name.endswith("_LS"))
        return shapes, partial(formulas.vit, num_heads=HEADS), VIT
    return deit_files.patchconvnet(multi=name.endswith("_multi")), partial(formulas.patchconvnet, num_heads=HEADS), VIT


def _check(name: str, shapes: deit_files.Shapes, formula: Formula, options: dict[str, Any], side: int) -> None:
    config = ModelConfig(name=name, drop_path=0.0, options=options)
    _check_model(create_model(config, num_classes=CLASSES, resolution=side), shapes, formula, side)


def _check_model(model: nn.Module, shapes: deit_files.Shapes, formula: Formula, side: int) -> None:
    model.double().eval()
    generator = torch.Generator().manual_seed(0)
    content = deit_files.fill(shapes, generator)
    images = torch.randn(2, 3, side, side, generator=generator, dtype=torch.float64)
    found = weights_of({"model": content, "epoch": 799}, "auto", path="deit.pth")
    assert num_classes_of(model, found, path="deit.pth") == CLASSES
    assert fit_weights(model, found, path="deit.pth") == []
    wanted = formula({key.removeprefix("module."): value.numpy() for key, value in content.items()}, images.numpy())
    assert wanted.shape == (2, CLASSES) and wanted.std() > 1e-3
    with torch.no_grad():
        np.testing.assert_allclose(model(images).numpy(), wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [name for name in NAMES_OF_DEIT if not name.startswith("resmlp")])
def test_each_name(name: str) -> None:
    shapes, formula, options = _case(name)
    _check(name, shapes, formula, options, (14 if "patch14" in name else 16) * GRID)


@pytest.mark.parametrize("patch", [8, 16])
def test_resmlp(patch: int) -> None:
    """timm's functions for ResMLP take no other sizes: its class does."""
    with on_meta():
        model = create_model(ModelConfig(name="resmlp_12"), num_classes=CLASSES, resolution=224)
    options = {"num_blocks": 2, "embed_dim": WIDTH, "mlp_ratio": 4, "block_layer": type(model.blocks[0])}  # type: ignore[index]
    options |= {"norm_layer": type(model.norm), "img_size": patch * GRID, "patch_size": patch, "num_classes": CLASSES}
    _check_model(type(model)(**options), deit_files.resmlp(patch), formulas.resmlp, patch * GRID)


@pytest.mark.parametrize(
    ("name", "branches", "scales"), [("deit_small_patch16_LS", 1, True), ("deit_base_patch16_18x2", 2, False)]
)
def test_hmlp_stem(name: str, branches: int, scales: bool) -> None:
    """With the statistics of batches that the file holds, as evaluation takes them."""
    shapes = deit_files.vit(16, branches, scales, hmlp=True)
    _check(name, shapes, partial(formulas.vit, num_heads=HEADS), {**VIT, "embed_layer": "hmlp"}, 16 * GRID)


@pytest.mark.parametrize("multi", [False, True])
def test_patchconvnet_on_a_larger_grid(multi: bool) -> None:
    """Where the 3x3 convolutions see neighbours on all sides; one head as published."""
    shapes = deit_files.patchconvnet(multi=multi)
    name = "S60_multi" if multi else "S60"
    _check(name, shapes, partial(formulas.patchconvnet, num_heads=1), {**VIT, "num_heads": 1}, 64)


@pytest.mark.parametrize(
    ("name", "shapes", "options"),
    [
        ("deit_small_patch16_18x2_LS", deit_files.vit(16, 2, True), VIT),
        ("deit_small_patch16_LS", deit_files.vit(16, 1, True, hmlp=True), {**VIT, "embed_layer": "hmlp"}),
        ("cait_S24", deit_files.cait(), VIT),
    ],
)
def test_other_resolution_and_classes(name: str, shapes: deit_files.Shapes, options: dict[str, Any]) -> None:
    found = weights_of(deit_files.fill(shapes, torch.Generator().manual_seed(0)), "auto", path="a.pth")
    model = create_model(ModelConfig(name=name, options=options), num_classes=7, resolution=48)
    assert fit_weights(model, found, path="a.pth") == ["positions 2x2 -> 3x3", "new head for 7 classes"]
    assert torch.equal(model.state_dict()["norm.weight"], found["norm.weight"].float())


def test_resmlp_keeps_its_resolution() -> None:
    """Its layers across patches have a weight for each pair of patches."""
    with on_meta():
        found = {
            name: torch.empty(value.shape)
            for name, value in create_model(ModelConfig(name="resmlp_12"), num_classes=5, resolution=224).state_dict().items()
        }
        model = create_model(ModelConfig(name="resmlp_12"), num_classes=5, resolution=384)
    with pytest.raises(
        UserError, match=r"of other shapes than the model's: blocks\.0\.linear_tokens\.bias \(196,\), not \(576,\)"
    ):
        fit_weights(model, found, path="a.pth")


@pytest.mark.parametrize(("has_stem", "wanted"), [(True, "without"), (False, "with")])
def test_an_hmlp_stem_and_a_linear_one_do_not_fit(has_stem: bool, wanted: str) -> None:
    """Says which of the two the model needs."""
    content = deit_files.fill(deit_files.vit(16, 1, True, hmlp=not has_stem), torch.Generator().manual_seed(0))
    config = ModelConfig(name="deit_small_patch16_LS", options={**VIT, **({"embed_layer": "hmlp"} if has_stem else {})})
    model = create_model(config, num_classes=CLASSES, resolution=32)
    with pytest.raises(UserError, match=rf"^weights a\.pth: .* hMLP stem.*; want model\.options {wanted} embed_layer=hmlp$"):
        fit_weights(model, content, path="a.pth")
