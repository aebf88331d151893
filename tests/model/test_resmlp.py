"""ResMLP-B24 with patches of 16, made as small as timm's ResMLP-S12, computes what that computes."""

from __future__ import annotations

import timm
import torch

from deit_fast.config import ModelConfig
from deit_fast.model.create import create_model

S12 = {"num_blocks": 12, "embed_dim": 384}


def test_its_layers_are_timms() -> None:
    torch.manual_seed(0)
    theirs = timm.create_model("resmlp_12_224", num_classes=10, img_size=32).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    ours = create_model(ModelConfig(name="resmlp_big_24_patch16_224", options=S12), num_classes=10, resolution=32).eval()
    ours.load_state_dict(theirs.state_dict())
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(ours(images), theirs(images))


def test_it_is_an_ordinary_model_of_timm() -> None:
    model = timm.create_model("resmlp_big_24_patch16_224", num_classes=0, img_size=32, **S12)
    assert (model.pretrained_cfg["crop_pct"], model.pretrained_cfg.get("url")) == (0.9, None)
    assert {float(block.ls1[0].detach()) for block in model.blocks} == {float(torch.tensor(1e-6))}
    features = timm.create_model("resmlp_big_24_patch16_224", features_only=True, img_size=32, out_indices=(3, 11), **S12)
    assert [tuple(output.shape) for output in features(torch.zeros(1, 3, 32, 32))] == [(1, 384, 2, 2)] * 2
