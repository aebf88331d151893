"""Both heads' logits and what they decide together, against timm's own forward and against softmaxes added by hand."""

import pytest
import torch
from torch import nn

from deit_fast.config import ModelConfig, UserError
from deit_fast.model.create import create_model
from deit_fast.model.heads import fuse, head_logits, head_names, is_distilled
from tests.model.meta import on_meta

TINY = {"patch_size": 8, "embed_dim": 24, "depth": 2, "num_heads": 2}
DISTILLED = "deit_tiny_distilled_patch16_224"


def _model(name: str = DISTILLED) -> nn.Module:
    torch.manual_seed(0)
    options = TINY if name.startswith("deit") else {}
    model = create_model(ModelConfig(name=name, drop_path=0.0, options=options), num_classes=5, resolution=32)
    for head in head_names(model):  # timm begins with heads of zeros, whose logits would agree whatever is done
        nn.init.normal_(model.get_submodule(head).weight)  # type: ignore[arg-type]
    return model


@pytest.fixture(scope="module")
def distilled() -> nn.Module:
    return _model()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("is_training", [True, False])
def test_equal_to_timms_training_output(distilled: nn.Module, images: torch.Tensor, is_training: bool) -> None:
    distilled.train().set_distilled_training(True)  # type: ignore[operator]
    wanted = distilled(images)
    got = head_logits(distilled.train(is_training), images)
    assert torch.equal(got[0], wanted[0])
    assert got[1] is not None and torch.equal(got[1], wanted[1])
    assert not torch.allclose(wanted[0], wanted[1], atol=0.1)


def test_fused_as_timm_evaluates(distilled: nn.Module, images: torch.Tensor) -> None:
    assert torch.equal(fuse(*head_logits(distilled.eval(), images)), distilled(images))


@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", "resnet18"])
def test_a_model_of_one_head(name: str, images: torch.Tensor) -> None:
    model = _model(name).eval()
    logits, distillation_logits = head_logits(model, images)
    assert torch.equal(logits, model(images))
    assert distillation_logits is None
    assert not is_distilled(model)
    assert fuse(logits, None, "both", "paper") is logits
    with pytest.raises(UserError, match=r"eval\.heads=distillation: the model has no distillation head"):
        fuse(logits, None, "distillation")


def test_papers_fusion_adds_softmaxes() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (4 * torch.randn(200, 5, generator=generator) for _ in range(2))
    summed = first.softmax(1) + second.softmax(1)
    fused = fuse(first, second, "both", "paper")
    torch.testing.assert_close(fused.softmax(1), summed / 2)
    assert torch.equal(fused.argmax(1), summed.argmax(1))
    assert not torch.equal(fused.argmax(1), fuse(first, second, "both", "code").argmax(1))


def test_one_head_alone() -> None:
    first, second = torch.randn(2, 5), torch.randn(2, 5)
    assert fuse(first, second, "class") is first
    assert fuse(first, second, "distillation") is second


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        (DISTILLED, ("head", "head_dist")),
        ("deit_tiny_patch16_224", ("head",)),
        ("resnet18", ("fc",)),
        ("regnety_002", ("head.fc",)),
        ("efficientnet_b0", ("classifier",)),
    ],
)
def test_names_of_heads(name: str, wanted: tuple[str, ...]) -> None:
    with on_meta():
        model = create_model(ModelConfig(name=name), num_classes=5, resolution=224)
    assert head_names(model) == wanted
    assert is_distilled(model) == (len(wanted) == 2)


def test_compiles_without_a_break(distilled: nn.Module, images: torch.Tensor) -> None:
    def predict(images: torch.Tensor) -> torch.Tensor:
        return fuse(*head_logits(distilled, images), "both", "paper")

    compiled = torch.compile(predict, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), predict(images))
