"""Models by name: sizes published for DeiT, errors that name what is wrong, checkpoints that timm reads, BlurPool."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from deit_fast.config import ModelConfig, UserError
from deit_fast.model.blurpool import BlurConv2d, add_blurpool
from deit_fast.model.create import create_model, lacks_of, num_parameters
from tests.model.meta import on_meta

SMALL = {"patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3}


@pytest.mark.parametrize(("size", "millions"), [("tiny", 5.7), ("small", 22.1), ("base", 86.6)])
def test_deit_has_the_published_number_of_parameters(size: str, millions: float) -> None:
    with on_meta():
        model = create_model(ModelConfig(name=f"deit_{size}_patch16_224"), num_classes=1000, resolution=224)
    assert num_parameters(model) / 1e6 == pytest.approx(millions, abs=0.05)


def test_drop_path_rises_linearly() -> None:
    config = ModelConfig(name="deit_tiny_patch16_224", drop_path=0.2, options=SMALL)
    model = create_model(config, num_classes=10, resolution=32)
    rates = [getattr(block.drop_path1, "drop_prob", 0.0) for block in model.blocks]  # type: ignore[union-attr]
    assert rates == pytest.approx([0.0, 0.1, 0.2])


@pytest.mark.parametrize("name", ["deit_smal_patch16_224", "deit_small"])
def test_unknown_name_gets_close_matches(name: str) -> None:
    with pytest.raises(UserError, match=rf"model\.name={name}: .*deit_small_.*patch16_224"):
        create_model(ModelConfig(name=name), num_classes=10, resolution=224)


def test_resolution_that_patches_do_not_divide() -> None:
    with pytest.raises(UserError, match=r"data\.resolution=230: .*16x16.* nearest that fits is 224"):
        create_model(ModelConfig(name="deit_tiny_patch16_224"), num_classes=10, resolution=230)


def test_option_that_the_model_does_not_take() -> None:
    with pytest.raises(UserError, match=r"cannot build it with .*no_such_option=3"):
        create_model(ModelConfig(name="deit_tiny_patch16_224", options={"no_such_option": 3}), num_classes=10, resolution=224)


def test_blurpool_blurs_before_each_strided_convolution() -> None:
    model = create_model(ModelConfig(name="resnet18", drop_path=0, blurpool=True), num_classes=10, resolution=64)
    strided = [m for m in model.modules() if isinstance(m, nn.Conv2d) and max(m.stride) > 1 and m.in_channels >= 16]
    assert len(strided) == 6
    assert all(isinstance(conv, BlurConv2d) for conv in strided)
    assert not isinstance(model.conv1, BlurConv2d)


def test_blurred_convolution_equals_its_definition() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 8, 3, stride=2, padding=1, bias=False)
    images = torch.randn(2, 16, 12, 12)
    binomial = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16
    blurred = torch.stack(
        [F.conv2d(images[:, channel : channel + 1], binomial[None, None], padding=1)[:, 0] for channel in range(16)], 1
    )
    want = conv(blurred)
    holder = nn.Sequential(conv)
    add_blurpool(holder)
    torch.testing.assert_close(holder(images), want)


def test_weights_of_a_blurred_model_load_in_timm(tmp_path: Path) -> None:
    model = create_model(ModelConfig(name="resnet18", drop_path=0, blurpool=True), num_classes=10, resolution=64)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "weights.pt")
    loaded = timm.create_model("resnet18", num_classes=10, checkpoint_path=str(tmp_path / "weights.pt"))
    assert torch.equal(loaded.layer2[0].conv1.weight, model.layer2[0].conv1.weight)  # type: ignore[index,union-attr]


def _rates(model: nn.Module, *names: str) -> list[float]:
    """Drop probability of each block that can be skipped, in the model's order."""
    blocks = [module for module in model.modules() if hasattr(module, names[0])]
    return [getattr(getattr(block, name), "drop_prob", 0.0) for block in blocks for name in names]


@pytest.mark.parametrize(
    ("name", "options", "places", "number"),
    [
        ("deit3_small_patch16_224", SMALL, ("drop_path1", "drop_path2"), 6),
        ("deit3_small_patch16_224", {**SMALL, "depth": 1}, ("drop_path1", "drop_path2"), 2),
        ("resnet18", {}, ("drop_path",), 8),
        ("regnety_002", {}, ("drop_path",), 13),
        ("efficientnet_b0", {}, ("drop_path",), 16),
    ],
)
def test_drop_path_is_the_same_for_all(name: str, options: dict[str, int], places: tuple[str, ...], number: int) -> None:
    config = ModelConfig(name=name, drop_path=0.2, drop_path_rates="constant", options=options)
    model = create_model(config, num_classes=10, resolution=32)
    assert _rates(model, *places) == [0.2] * number
    linear = create_model(ModelConfig(name=name, drop_path=0.2, options=options), num_classes=10, resolution=32)
    assert model.state_dict().keys() == linear.state_dict().keys()
    assert len(set(_rates(linear, *places))) == max(1, number // len(places))


def test_drop_path_of_the_first_block_skips() -> None:
    config = ModelConfig(name="deit_tiny_patch16_224", drop_path=0.5, drop_path_rates="constant", options=SMALL)
    model = create_model(config, num_classes=10, resolution=32)
    skipped: list[int] = []
    path = model.blocks[0].drop_path1  # type: ignore[index,union-attr]
    path.register_forward_hook(lambda _, inputs, output: skipped.append(int((output == 0).flatten(1).all(1).sum())))
    model(torch.randn(64, 3, 32, 32))
    assert 0 < skipped[0] < 64
    model.eval()(torch.randn(64, 3, 32, 32))
    assert skipped[1] == 0


def test_drop_path_that_timm_left_out_of_a_resnet_runs() -> None:
    config = ModelConfig(name="resnet18", drop_path=0.5, drop_path_rates="constant")
    model = create_model(config, num_classes=10, resolution=32)
    ran: list[bool] = []
    model.layer1[0].drop_path.register_forward_hook(lambda *_: ran.append(True))  # type: ignore[index,union-attr]
    model(torch.randn(2, 3, 32, 32))
    assert ran == [True]


def test_drop_path_of_cait_is_constant_but_for_its_class_attention() -> None:
    options = {"embed_dim": 24, "depth": 3, "num_heads": 2}
    config = ModelConfig(name="cait_xxs24_224", drop_path=0.2, drop_path_rates="constant", options=options)
    assert _rates(create_model(config, num_classes=10, resolution=32), "drop_path") == [0.2] * 3 + [0.0] * 2


def test_constant_drop_path_of_zero_is_none() -> None:
    config = ModelConfig(name="resnet18", drop_path=0.0, drop_path_rates="constant")
    assert _rates(create_model(config, num_classes=10, resolution=32), "drop_path") == [0.0] * 8


@pytest.mark.parametrize(
    ("name", "lacks"),
    [("densenet121", True), ("inception_v3", True), ("hrnet_w18_small", True), ("resnet18", False), ("levit_128s", False)],
)
def test_stochastic_depth_that_an_architecture_has_not(name: str, lacks: bool) -> None:
    config = ModelConfig(name=name, drop_path=0.1)
    with on_meta():
        model = create_model(config, num_classes=7, resolution=224)
    wanted = [f"model.drop_path=0.1: {name} has no stochastic depth and is trained without"]
    assert lacks_of(config, model) == (wanted if lacks else [])
    assert lacks_of(ModelConfig(name=name, drop_path=0.0), model) == []


def test_stochastic_depth_asked_for_by_name_is_not_left_out() -> None:
    for config in (
        ModelConfig(name="vgg11", options={"drop_path_rate": 0.1}),
        ModelConfig(name="vgg11", drop_path_rates="constant"),
    ):
        with on_meta(), pytest.raises(UserError, match=r"drop_path_rate|has no stochastic depth in its blocks"):
            create_model(config, num_classes=7, resolution=224)


def test_an_encoder_without_a_classifier() -> None:
    with on_meta(), pytest.raises(UserError, match=r"^model\.name=qwen3_vit_88m_enc: is an encoder without a class"):
        create_model(ModelConfig(name="qwen3_vit_88m_enc"), num_classes=7, resolution=224)


def test_the_resolution_that_timm_states_is_taken() -> None:
    """384 pixels in patches of 14: timm leaves the rest out."""
    with on_meta():
        model = create_model(ModelConfig(name="vit_so400m_patch14_siglip_384"), num_classes=7, resolution=384)
        assert model(torch.empty(1, 3, 384, 384)).shape == (1, 7)


def _dropouts(name: str, options: dict[str, int]) -> dict[str, float]:
    config = ModelConfig(name=name, drop_path=0.0, dropout=0.3, options=options)
    model = create_model(config, num_classes=10, resolution=32)
    return {key: module.p for key, module in model.named_modules() if isinstance(module, nn.Dropout) and module.p}


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224"])
def test_dropout_where_timm_0_3_2_had_it(name: str) -> None:
    """After the positions, the attention's projection and both layers of the MLP; not on attention's weights or the head."""
    blocks = {f"blocks.{i}.{layer}" for i in range(3) for layer in ("attn.proj_drop", "mlp.drop1", "mlp.drop2")}
    assert _dropouts(name, SMALL) == dict.fromkeys(blocks | {"pos_drop"}, 0.3)


def test_dropout_of_a_convnet_is_that_of_its_head() -> None:
    assert _dropouts("regnety_002", {}) == {"head.drop": 0.3}
    model = create_model(ModelConfig(name="resnet18", drop_path=0.0, dropout=0.3), num_classes=10, resolution=32)
    assert model.drop_rate == 0.3  # applied as a function before the last layer


@pytest.mark.parametrize(
    ("name", "resolution"),
    [
        ("deit_base_distilled_patch16_224", 384),
        ("deit_base_distilled_patch16_384", 224),
        ("deit_base_patch16_384", 224),
        ("deit3_base_patch16_224", 192),
        ("deit3_huge_patch14_224", 154),
        ("cait_s24_384", 224),
        ("vit_base_patch16_384", 224),
        ("resnet50", 160),
        ("regnety_160", 384),
        ("efficientnet_b0", 240),
        ("efficientnet_b7", 224),
        ("pvt_v2_b0", 96),
    ],
)
def test_architectures_of_recipes_at_another_resolution(name: str, resolution: int) -> None:
    with on_meta():
        model = create_model(ModelConfig(name=name), num_classes=7, resolution=resolution).eval()
        assert model(torch.empty(1, 3, resolution, resolution)).shape == (1, 7)


def test_name_of_another_option() -> None:
    with pytest.raises(UserError, match=r"^distil\.teacher=regnety_16: timm has no such model; did you mean .*regnety_160"):
        create_model(ModelConfig(name="regnety_16"), num_classes=7, resolution=224, option="distil.teacher")


def _rates_of_branches(model: nn.Module) -> list[tuple[float, float]]:
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
    rates = _rates_of_branches(ours)
    assert rates == _rates_of_branches(theirs)
    # DeiT's models.py, through timm: from 0 at the first block to drop_path at the last, both branches alike
    want = np.linspace(0, drop_path, len(rates))
    np.testing.assert_allclose(rates, np.stack([want, want], axis=1), atol=1e-7)


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "deit3_small_patch16_224"])
def test_positions_of_another_side_are_interpolated_bicubically_and_antialiased(name: str) -> None:
    """A model with other sides is, at each, the model that is built for it, with positions from PyTorch's own interpolation."""
    config = ModelConfig(name=name, options={"patch_size": 8, "embed_dim": 24, "depth": 1, "num_heads": 2})
    torch.manual_seed(0)
    model: Any = create_model(config, num_classes=10, resolution=64, has_other_sides=True).eval()
    nn.init.normal_(model.pos_embed)
    num_before = model.pos_embed.shape[1] - 64
    for side in (32, 64, 96):
        grid = side // 8
        fixed: Any = create_model(config, num_classes=10, resolution=side).eval()
        before, patches = model.pos_embed[:, :num_before], model.pos_embed[:, num_before:]
        image = patches.reshape(1, 8, 8, 24).permute(0, 3, 1, 2)
        resized = F.interpolate(image, size=(grid, grid), mode="bicubic", antialias=True)
        positions = torch.cat([before, resized.permute(0, 2, 3, 1).reshape(1, -1, 24)], dim=1)
        fixed.load_state_dict({**model.state_dict(), "pos_embed": positions})
        images = torch.randn(2, 3, side, side)
        torch.testing.assert_close(model(images), fixed(images), rtol=1e-5, atol=1e-6)
        with pytest.raises(AssertionError, match="doesn't match model"):
            fixed(torch.randn(1, 3, side + 8, side + 8))


def test_an_architecture_without_other_sides_is_built_for_one() -> None:
    model = create_model(ModelConfig(name="cait_xxs24_224"), num_classes=10, resolution=224, has_other_sides=True)
    with pytest.raises(AssertionError):
        model(torch.zeros(1, 3, 192, 192))
