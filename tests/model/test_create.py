"""Models by name: sizes published for DeiT, errors that name what is wrong, checkpoints that timm reads, BlurPool."""

from pathlib import Path

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional as F

from deit_fast.config import ModelConfig, UserError
from deit_fast.model.blurpool import BlurConv2d, add_blurpool
from deit_fast.model.create import create_model, num_parameters

SMALL = {"patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 3}


@pytest.mark.parametrize(("size", "millions"), [("tiny", 5.7), ("small", 22.1), ("base", 86.6)])
def test_deit_has_the_published_number_of_parameters(size: str, millions: float) -> None:
    with torch.device("meta"):
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
