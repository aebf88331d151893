"""Attention in float32 within mixed precision: near float64 where bfloat16 and float16 are far off, else timm's own."""

import copy

import pytest
import torch
from timm.models.cait import ClassAttn, TalkingHeadAttn
from timm.models.vision_transformer import Attention
from torch import nn

from deit_fast.config import ModelConfig, UserError
from deit_fast.model.attention import Float32Attention, use_float32_attention
from deit_fast.model.create import create_model

TINY = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}


def _attention(kind: type[nn.Module], scale: float, **options: object) -> nn.Module:
    """Attention whose queries and keys are large: scores of some hundreds."""
    torch.manual_seed(0)
    attention = kind(dim=32, num_heads=2, qkv_bias=True, **options).eval()
    with torch.no_grad():
        for name, parameter in attention.named_parameters():
            if name.split(".")[0] in ("qkv", "q", "k"):
                parameter.mul_(scale)
    return attention


def _float32(attention: nn.Module) -> nn.Module:
    changed = copy.deepcopy(attention)
    use_float32_attention(nn.Sequential(changed))
    return changed


@pytest.mark.parametrize(("kind", "scale"), [(Attention, 40.0), (ClassAttn, 12.0), (TalkingHeadAttn, 60.0)])
def test_near_float64_where_bfloat16_is_not(kind: type[nn.Module], scale: float) -> None:
    attention = _attention(kind, scale)
    tokens = torch.randn(8, 64, 32, generator=torch.Generator().manual_seed(1))
    exact = copy.deepcopy(attention).double()(tokens.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        plain, got = attention(tokens), _float32(attention)(tokens)
    assert plain.dtype == got.dtype == torch.bfloat16
    error, plain_error = ((result.double() - exact).norm() / exact.norm() for result in (got, plain))
    assert error < 2**-9  # bfloat16's rounding of the output, and no more
    assert plain_error > 5 * error


def test_finite_where_float16_overflows() -> None:
    attention = _attention(Attention, 600.0)
    attention.fused_attn = False  # type: ignore[assignment]  # scores as a tensor, which float16 then has to hold
    tokens = torch.randn(2, 20, 32, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", dtype=torch.float16):
        plain, got = attention(tokens), _float32(attention)(tokens)
    assert not plain.isfinite().all()
    assert got.isfinite().all()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("options", [{}, {"qk_norm": True, "norm_layer": nn.LayerNorm}, {"attn_drop": 0.3, "proj_drop": 0.2}])
def test_timms_own_without_autocast(fused: bool, options: dict[str, object]) -> None:
    """Normalisation of queries and keys, dropout and masks are those of timm."""
    attention = _attention(Attention, 1.0, **options).train()
    attention.fused_attn = fused  # type: ignore[assignment]
    changed = _float32(attention)
    tokens = torch.randn(2, 6, 32)
    mask = torch.randn(2, 1, 6, 6)
    for arguments in ({}, {"attn_mask": mask}):
        torch.manual_seed(3)
        wanted = attention(tokens, **arguments)
        torch.manual_seed(3)
        assert torch.equal(changed(tokens, **arguments), wanted)
    assert not torch.equal(attention.eval()(tokens), attention(tokens, attn_mask=mask))


@pytest.mark.parametrize("name", ["deit_tiny_distilled_patch16_224", "cait_xxs24_224"])
def test_model_keeps_names_and_values(name: str) -> None:
    options = TINY if name.startswith("deit") else {"embed_dim": 24, "depth": 2, "num_heads": 2}
    models = []
    for dtype in ("auto", "float32"):
        torch.manual_seed(0)
        config = ModelConfig(name=name, drop_path=0.0, options=options, attention_dtype=dtype)
        models.append(create_model(config, num_classes=5, resolution=32).eval())
    plain, changed = models
    for (name, wanted), (changed_name, got) in zip(plain.state_dict().items(), changed.state_dict().items(), strict=True):
        assert name == changed_name and torch.equal(wanted, got)
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(plain(images), changed(images))
    average = copy.deepcopy(changed)
    assert [type(module) for module in average.modules()] == [type(module) for module in changed.modules()]


def test_all_branches_of_parallel_blocks() -> None:
    config = ModelConfig(name="deit_small_patch16_18x2", drop_path=0.0, options=TINY, attention_dtype="float32")
    model = create_model(config, num_classes=5, resolution=32)
    assert [type(branch.attn) for block in model.blocks for branch in block.attns] == [Float32Attention] * 4  # type: ignore[union-attr]


def test_compiles_without_a_break() -> None:
    changed = _float32(_attention(Attention, 1.0))
    tokens = torch.randn(2, 6, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        compiled = torch.compile(changed, backend="eager", fullgraph=True)
        assert torch.equal(compiled(tokens), changed(tokens))


def test_model_without_attention() -> None:
    with pytest.raises(UserError, match=r"model\.attention_dtype=float32: ResNet has no attention .* want auto"):
        create_model(ModelConfig(name="resnet18", attention_dtype="float32"), num_classes=5, resolution=32)
