"""PatchConvNet as a model of timm: features, heads, attention maps, and what is done to models before training."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.layers import DropPath
from timm.models import group_parameters
from torch import nn

from deit_fast.config import ModelConfig, UserError
from deit_fast.model.attention import Float32QueryAttention, use_float32_attention
from deit_fast.model.attention_pool import QueryAttention
from deit_fast.model.create import create_model
from deit_fast.model.heads import head_tensors
from deit_fast.model.memory_format import to_channels_last
from deit_fast.model.patchconvnet import PatchConvNet, attention_maps
from deit_fast.model.patches import use_linear_patches
from deit_fast.model.weights import fit_weights, num_classes_of
from tests.model import formulas

NAMES = timm.list_models("patchconvnet_*")
ONE, MULTI = "patchconvnet_s60", "patchconvnet_s60_multi"
TINY = {"embed_dim": 24, "depth": 3, "init_values": 0.5}


def _model(name: str = ONE, num_classes: int = 5, **options: Any) -> PatchConvNet:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=num_classes, **{**TINY, **options})
    assert isinstance(model, PatchConvNet)
    return model.eval()


def _images(height: int = 64, width: int = 64) -> torch.Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))


def test_what_timm_knows_of_them() -> None:
    assert len(NAMES) == 7
    for name in NAMES:
        facts = timm.get_pretrained_cfg(name)
        assert facts.input_size == (3, 224, 224) and not facts.fixed_input_size and not facts.has_weights
        assert (facts.classifier, facts.first_conv) == ("head", "stem.0")
    with pytest.raises(RuntimeError, match="No pretrained weights"):
        timm.create_model(ONE, pretrained=True, **TINY)


@pytest.mark.parametrize(("name", "scale"), [(ONE, 1e-4), ("patchconvnet_b120", 1e-6), (MULTI, 1e-4)])
def test_initial_weights_are_those_of_deits_code(name: str, scale: float) -> None:
    torch.manual_seed(0)
    state = timm.create_model(name, embed_dim=64, depth=1).state_dict()
    assert {state[key].unique().item() for key in state if key.endswith(".gamma")} == {torch.tensor(scale).item()}
    for key in ("pool.attn.q.weight", "pool.mlp.fc1.weight", "head.weight", "head.queries" if name == MULTI else "cls_token"):
        assert state[key].std() == pytest.approx(0.02, rel=0.25), key
    assert not any(state[key].any() for key in ("pool.attn.q.bias", "pool.mlp.fc1.bias", "head.bias"))
    assert state["blocks.0.conv1.weight"].abs().max() <= 64**-0.5  # PyTorch's own, as of all convolutions


@pytest.mark.parametrize(("side", "grid"), [((64, 64), (4, 4)), ((48, 80), (3, 5)), ((50, 33), (4, 3))])
def test_images_of_any_size(side: tuple[int, int], grid: tuple[int, int]) -> None:
    model, images = _model(), _images(*side)
    assert model.forward_features(images).shape == (2, 24, *grid)
    assert model(images).shape == (2, 5)
    assert attention_maps(model, images).shape == (2, 1, 1, *grid)


@pytest.mark.parametrize("name", [ONE, MULTI])
def test_features_of_blocks(name: str) -> None:
    model = timm.create_model(name, features_only=True, out_indices=(0, 2), **TINY).eval()
    features = model(_images())
    assert [feature.shape for feature in features] == [(2, 24, 4, 4)] * 2
    assert model.feature_info.channels() == [24, 24] and model.feature_info.reduction() == [16, 16]
    whole = _model(name)
    whole.load_state_dict({**whole.state_dict(), **model.model.state_dict()})
    torch.testing.assert_close(whole.forward_features(_images()), features[-1])
    last, (normalised,) = whole.forward_intermediates(_images(), indices=1, norm=True)
    torch.testing.assert_close(normalised, whole.norm(last.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
    early = whole.forward_intermediates(_images(), indices=[0], stop_early=True, intermediates_only=True)
    torch.testing.assert_close(early, features[:1])


def test_heads() -> None:
    model, images = _model(), _images()
    pooled = model.forward_head(model.forward_features(images), pre_logits=True)
    assert pooled.shape == (2, 24)
    torch.testing.assert_close(model(images), model.get_classifier()(pooled))
    model.reset_classifier(0)
    torch.testing.assert_close(model(images), pooled)
    model.reset_classifier(0, "")
    torch.testing.assert_close(model(images), model.forward_features(images))
    model.reset_classifier(7, "attn")
    assert model(images).shape == (2, 7)


def test_heads_with_a_query_a_class() -> None:
    model, images = _model(MULTI), _images()
    pooled = model.forward_head(model.forward_features(images), pre_logits=True)
    assert pooled.shape == (2, 5, 24)
    assert head_tensors(model) == ("head.weight", "head.bias", "head.queries")
    # the logit of a class is that of a model of this class alone
    for i in range(5):
        alone = _model(MULTI, num_classes=1)
        rows = {name: value[i : i + 1] if name.startswith("head.") else value for name, value in model.state_dict().items()}
        alone.load_state_dict(rows)
        torch.testing.assert_close(alone(images)[:, 0], model(images)[:, i])
    model.reset_classifier(9)
    assert model(images).shape == (2, 9)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (ONE, {"embed_dim": 20}, "embed_dim=20: want a multiple of 8"),
        (ONE, {"num_heads": 5}, "num_heads=5: want a divisor of the width, 24"),
        (ONE, {"global_pool": "avg"}, "global_pool=avg: want attn, or nothing"),
        (ONE, {"global_pool": ""}, "global_pool= with 5 classes: .*; want attn"),
        (MULTI, {"num_classes": 0}, "num_classes=0: nothing pools with a query a class; want global_pool="),
    ],
)
def test_options_that_do_not_fit(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _model(name, **options)


@pytest.mark.parametrize(("name", "num_heads"), [(ONE, 1), (ONE, 3), (MULTI, 2)])
def test_attention_maps(name: str, num_heads: int) -> None:
    """Against NumPy, from features and queries."""
    model = _model(name, num_heads=num_heads).double()
    images = _images(32, 64).double()
    maps = attention_maps(model, images)
    queries = 5 if name == MULTI else 1
    assert maps.shape == (2, queries, num_heads, 2, 4) and not maps.requires_grad
    weights = {key: value.numpy() for key, value in model.state_dict().items()}
    asking = formulas.layer_norm(weights, "pool.norm1", model.queries().detach().numpy().repeat(2, 0))
    patches = formulas.layer_norm(weights, "pool.norm1", formulas.tokens(model.forward_features(images).detach().numpy()))
    asked = patches if name == MULTI else np.concatenate([asking, patches], axis=1)
    q, k = formulas.linear(weights, "pool.attn.q", asking), formulas.linear(weights, "pool.attn.k", asked)
    for head in range(num_heads):
        part = slice(head * 24 // num_heads, (head + 1) * 24 // num_heads)
        shares = formulas.softmax(q[..., part] @ k[..., part].transpose(0, 2, 1) / (24 // num_heads) ** 0.5)
        np.testing.assert_allclose(maps[:, :, head].flatten(2), shares[..., -8:], rtol=1e-9)
    sums = maps.sum((3, 4))
    assert torch.allclose(sums, torch.ones_like(sums)) if name == MULTI else (sums < 1).all()


def test_other_models_have_no_maps() -> None:
    with pytest.raises(UserError, match=r"^VisionTransformer: pools without attention; want a PatchConvNet"):
        attention_maps(timm.create_model("vit_tiny_patch16_224", depth=1), _images(224, 224))


@pytest.mark.parametrize("name", [ONE, MULTI])
def test_each_parameter_learns(name: str) -> None:
    """DDP waits for the gradient of every parameter."""
    model = _model(name).train()
    model(_images()).square().sum().backward()
    assert all(value.grad is not None and value.grad.abs().sum() > 0 for value in model.parameters())


@pytest.mark.parametrize("name", [ONE, MULTI])
def test_checkpointing_and_channels_last_change_nothing(name: str) -> None:
    model, images = _model(name), _images()
    changed = to_channels_last(copy.deepcopy(model))
    changed.set_grad_checkpointing()  # type: ignore[operator]
    ends = []
    for one, shown in ((model, images), (changed, images.contiguous(memory_format=torch.channels_last))):
        logits = one(shown)
        logits.square().sum().backward()
        ends.append([logits, *(value.grad for value in one.parameters())])
    for wanted, got in zip(*ends, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-4)
    features = changed.forward_features(images.contiguous(memory_format=torch.channels_last))  # type: ignore[operator]
    assert features.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.slow
def test_compiles_without_a_break() -> None:
    for name in (ONE, MULTI):
        model = _model(name, depth=1)
        compiled = torch.compile(model, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(_images()), model(_images()))


def test_layers_from_stem_to_head() -> None:
    groups = group_parameters(_model(), _model().group_matcher())
    assert len(groups) == 1 + 3 + 1 and groups[0] == ["stem.0.weight", "stem.2.weight", "stem.4.weight", "stem.6.weight"]
    assert all(name.startswith("blocks.1.") for name in groups[2])
    assert {name.partition(".")[0] for name in groups[3]} == {"blocks", "cls_token", "pool", "norm"}
    assert groups[4] == ["head.weight", "head.bias"]
    assert _model().no_weight_decay() <= {name for name, _ in [*_model().named_parameters(), *_model(MULTI).named_parameters()]}


def _config(name: str = ONE, **options: Any) -> ModelConfig:
    return ModelConfig(name=name, options=TINY, **options)


def test_stochastic_depth() -> None:
    """In the blocks, and not where the query pools."""

    def rates(config: ModelConfig) -> list[float]:
        model = create_model(config, num_classes=5, resolution=64)
        return [module.drop_prob for module in model.modules() if isinstance(module, DropPath)]

    assert rates(_config(drop_path=0.2)) == pytest.approx([0.1, 0.2])
    assert rates(_config(drop_path=0.2, drop_path_rates="constant")) == [0.2] * 3


@pytest.mark.parametrize("name", [ONE, MULTI])
def test_float32_attention(name: str) -> None:
    """Near float64 under autocast to bfloat16, with scores of some hundreds."""
    attention = QueryAttention(32, 2).eval()
    with torch.no_grad():
        attention.q.weight.mul_(12)
        attention.k.weight.mul_(12)
    queries, tokens = torch.randn(1, 5, 32), torch.randn(8, 64, 32)
    changed = nn.Sequential(copy.deepcopy(attention))
    use_float32_attention(changed)
    exact = copy.deepcopy(attention).double()(queries.double(), tokens.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain, got = attention(queries, tokens), changed[0](queries, tokens)
    assert plain.dtype == got.dtype == torch.bfloat16
    error, plain_error = ((result.double() - exact).norm() / exact.norm() for result in (got, plain))
    assert error < 2**-8 < plain_error
    model = create_model(_config(name, attention_dtype="float32"), num_classes=5, resolution=64).eval()
    assert isinstance(model, PatchConvNet) and type(model.pool.attn) is Float32QueryAttention
    use_plain = _model(name)
    use_plain.load_state_dict(model.state_dict())
    assert torch.equal(model(_images()), use_plain(_images()))


def test_there_are_no_patches_side_by_side() -> None:
    with pytest.raises(UserError, match=r"train\.patch_embed=linear: PatchConvNet cuts its images into no patches"):
        use_linear_patches(_model())


@pytest.mark.parametrize("name", [ONE, MULTI])
def test_weights_for_other_classes(name: str) -> None:
    """A new head brings its queries along. The resolution is of no importance."""
    source, model = _model(name), _model(name, num_classes=7)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert fit_weights(model, source.state_dict(), path="a.pt") == ["new head for 7 classes"]
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key] if key.startswith("head.") else source.state_dict()[key]), key
    assert num_classes_of(model, source.state_dict(), path="a.pt") == 5


def test_a_query_a_class_starts_from_one_for_all() -> None:
    """As the published fine-tuning of S60 with a query a class does; the way back is refused."""
    source, model = _model(), _model(MULTI)
    assert fit_weights(model, source.state_dict(), path="a.pt") == []
    state = model.state_dict()
    assert torch.equal(state["head.queries"], source.state_dict()["cls_token"][0].expand(5, -1))
    assert all(torch.equal(state[name], value) for name, value in source.state_dict().items() if name != "cls_token")
    with pytest.raises(UserError, match=r"do not fit the model: lacks what the model has: cls_token$"):
        fit_weights(_model(), state, path="a.pt")
