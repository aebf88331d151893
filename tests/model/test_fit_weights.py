"""Weights fitted to models that differ from their own: in resolution, classes, tokens, names, and not at all."""

from typing import Any

import pytest
import torch

from deit_fast.config import ModelConfig, UserError
from deit_fast.model.create import create_model
from deit_fast.model.positions import interpolate_positions
from deit_fast.model.weights import fit_weights, num_classes_of
from tests.model.tiny_models import DISTILLED, PLAIN, random_images, shuffled, tiny_model


@pytest.mark.parametrize("name", [PLAIN, DISTILLED])
@pytest.mark.parametrize("resolution", [48, 16])
def test_another_resolution(name: str, resolution: int) -> None:
    source, model = shuffled(tiny_model(name), 0), tiny_model(name, resolution=resolution)
    side = resolution // 8
    assert fit_weights(model, source.state_dict(), path="a.pt") == [f"positions 4x4 -> {side}x{side}"]
    prefix = 1 + (name == DISTILLED)
    wanted = dict(source.state_dict())
    wanted["pos_embed"] = interpolate_positions(wanted["pos_embed"], prefix, (4, 4), (side, side))
    assert all(torch.equal(value, wanted[key]) for key, value in model.state_dict().items())
    assert model(random_images(resolution)).shape == (1, 5)


def test_grids_that_are_not_square() -> None:
    wide, square, tall = (
        tiny_model(PLAIN, img_size=(16, 64)),
        tiny_model(PLAIN, resolution=48),
        tiny_model(PLAIN, img_size=(64, 16)),
    )
    weights = shuffled(wide, 0).state_dict()
    assert fit_weights(square, weights, path="a.pt", grid=(2, 8)) == ["positions 2x8 -> 6x6"]
    assert fit_weights(tall, weights, path="a.pt", grid=(2, 8)) == ["positions 2x8 -> 8x2"]
    assert torch.equal(tall.state_dict()["pos_embed"], interpolate_positions(weights["pos_embed"], 1, (2, 8), (8, 2)))
    assert fit_weights(tiny_model(PLAIN, img_size=(16, 64)), weights, path="a.pt") == []
    weights["pos_embed"] = weights["pos_embed"][:, :-1]
    with pytest.raises(UserError, match=r"weights a\.pt: 15 positions of patches: fill no square grid"):
        fit_weights(square, weights, path="a.pt")
    with pytest.raises(UserError, match=r"weights a\.pt: hold positions of 15 patches; want 2x8"):
        fit_weights(square, weights, path="a.pt", grid=(2, 8))


def test_positions_without_class_token() -> None:
    """CaiT's and DeiT III's positions are those of the patches alone."""
    for name in ("cait_xxs24_224", "deit3_small_patch16_224"):
        options = {"embed_dim": 24, "depth": 1, "num_heads": 2}
        torch.manual_seed(0)
        source, model = (
            create_model(ModelConfig(name=name, drop_path=0.0, options=options), num_classes=5, resolution=side).eval()
            for side in (64, 96)
        )
        weights = shuffled(source, 0).state_dict()
        assert fit_weights(model, weights, path="a.pt") == ["positions 4x4 -> 6x6"]
        assert torch.equal(model.state_dict()["pos_embed"], interpolate_positions(weights["pos_embed"], 0, (4, 4), (6, 6)))


@pytest.mark.parametrize(
    ("name", "line"), [(PLAIN, "new head for 7 classes"), (DISTILLED, "new head and head_dist for 7 classes")]
)
def test_another_number_of_classes(name: str, line: str) -> None:
    source, model = shuffled(tiny_model(name), 0), shuffled(tiny_model(name, num_classes=7), 1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert fit_weights(model, source.state_dict(), path="a.pt") == [line]
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key] if key.startswith("head") else source.state_dict()[key]), key


@pytest.mark.parametrize(("name", "head"), [("resnet18", "fc"), ("regnety_002", "head.fc"), ("efficientnet_b0", "classifier")])
def test_convnets_of_another_number_of_classes(name: str, head: str) -> None:
    source, model = (
        create_model(ModelConfig(name=name, drop_path=0.0), num_classes=number, resolution=32) for number in (5, 7)
    )
    assert fit_weights(model, source.state_dict(), path="a.pt") == [f"new {head} for 7 classes"]
    assert num_classes_of(model, source.state_dict(), path="a.pt") == 5
    without = {key: value for key, value in source.state_dict().items() if not key.startswith(f"{head}.")}
    assert fit_weights(model, without, path="a.pt") == [f"new {head} for 7 classes"]
    assert num_classes_of(model, without, path="a.pt") is None


def test_tables_of_relative_positions_at_another_resolution() -> None:
    """timm's function for the architecture resamples them; the three entries of the class token stay."""
    options = {"embed_dim": 24, "depth": 1, "num_heads": 2}
    config = ModelConfig(name="beit_base_patch16_224", drop_path=0.0, options=options)
    source, model = (create_model(config, num_classes=5, resolution=side).eval() for side in (64, 96))
    weights = shuffled(source, 0).state_dict()
    assert fit_weights(model, dict(weights), path="a.pt") == []
    state, table = model.state_dict(), "blocks.0.attn.relative_position_bias_table"
    assert all(torch.equal(value, weights[name]) for name, value in state.items() if name != table)
    assert (len(weights[table]), len(state[table])) == (7 * 7 + 3, 11 * 11 + 3)
    assert torch.equal(state[table][-3:], weights[table][-3:])
    centre = [weights[table][:-3].unflatten(0, (7, 7))[3, 3], state[table][:-3].unflatten(0, (11, 11))[5, 5]]
    torch.testing.assert_close(*centre)


def test_distilled_to_plain() -> None:
    """The class token's part of the distilled model: with its position, without the distillation token."""
    source, model = shuffled(tiny_model(DISTILLED), 0), tiny_model(PLAIN, resolution=48)
    assert fit_weights(model, source.state_dict(), path="a.pt") == [
        "positions 4x4 -> 6x6",
        "distillation token and head left out",
    ]
    positions = torch.cat([source.state_dict()["pos_embed"][:, :1], source.state_dict()["pos_embed"][:, 2:]], dim=1)
    assert torch.equal(model.state_dict()["pos_embed"], interpolate_positions(positions, 1, (4, 4), (6, 6)))
    assert torch.equal(model.state_dict()["head.weight"], source.state_dict()["head.weight"])


def test_plain_to_distilled_and_back() -> None:
    source, model = shuffled(tiny_model(PLAIN), 0), shuffled(tiny_model(DISTILLED), 1)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert fit_weights(model, source.state_dict(), path="a.pt") == ["new distillation token and head"]
    state = model.state_dict()
    for name in ("dist_token", "head_dist.weight", "head_dist.bias"):
        assert torch.equal(state[name], before[name])
    assert torch.equal(state["pos_embed"][:, 1], before["pos_embed"][:, 1])
    back = tiny_model(PLAIN, seed=2)
    fit_weights(back, state, path="a.pt")
    assert torch.equal(back(random_images()), source(random_images()))


def test_patches_of_another_size() -> None:
    with pytest.raises(UserError, match=r"weights a\.pt: are for patches of 16x16 pixels, the model's have 8x8"):
        fit_weights(tiny_model(PLAIN), tiny_model(PLAIN, patch_size=16).state_dict(), path="a.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm.bias": None}, "lacks what the model has: norm.bias"),
        ({"head.bias": None}, "lacks what the model has: head.bias"),
        ({"extra": torch.zeros(1)}, "holds what the model has not: extra"),
        ({"norm.bias": torch.zeros(3)}, r"of other shapes than the model's: norm.bias \(3,\), not \(24,\)"),
        ({"pos_embed": torch.zeros(1, 17, 7)}, r"of other shapes .*: pos_embed \(1, 17, 7\), not \(1, 17, 24\)"),
        ({"head.weight": torch.zeros(5, 7)}, r"of other shapes .*: head.weight \(5, 7\), not \(5, 24\)"),
    ],
)
def test_weights_that_do_not_fit_leave_the_model_alone(change: dict[str, Any], message: str) -> None:
    model = tiny_model(PLAIN)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights = {name: value for name, value in {**tiny_model(PLAIN, seed=1).state_dict(), **change}.items() if value is not None}
    with pytest.raises(UserError, match=rf"weights a\.pt: do not fit the model: {message}$"):
        fit_weights(model, weights, path="a.pt")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_weights_of_another_architecture() -> None:
    resnet = create_model(ModelConfig(name="resnet18", drop_path=0.0), num_classes=5, resolution=32)
    with pytest.raises(UserError, match=r"do not fit the model: lacks what the model has: \S+; \S+; \S+ and \d+ more$"):
        fit_weights(tiny_model(PLAIN), resnet.state_dict(), path="a.pt")
    with pytest.raises(UserError, match=r"lacks what the model has: blocks\.2\.\S+; \S+; \S+ and 9 more$"):
        fit_weights(tiny_model(PLAIN, depth=3), tiny_model(PLAIN).state_dict(), path="a.pt")
