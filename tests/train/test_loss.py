"""Losses against timm's, and against the formulas in float64."""

import numpy as np
import pytest
import torch
from timm.loss import BinaryCrossEntropy, SoftTargetCrossEntropy

from deit_fast.train.loss import binary_cross_entropy, soft_cross_entropy


def _mixed(num_views: int = 6, num_classes: int = 11, smoothing: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and targets of two labels each, as Mixup gives them."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(num_views, num_classes, generator=generator)
    labels = torch.rand(num_views, num_classes, generator=generator).argsort(1)[:, :2]
    shares = torch.rand(num_views, 1, generator=generator) * 0.8 + 0.1
    targets = torch.zeros(num_views, num_classes).scatter_(1, labels, torch.cat([shares, 1 - shares], 1))
    return logits, targets * (1 - smoothing) + smoothing / num_classes


def test_cross_entropy_is_timms() -> None:
    logits, targets = _mixed(smoothing=0.1)
    torch.testing.assert_close(soft_cross_entropy(logits, targets), SoftTargetCrossEntropy()(logits, targets))


@pytest.mark.parametrize("threshold", [0.0, 0.2, None])
def test_binary_cross_entropy_is_timms(threshold: float | None) -> None:
    logits, targets = _mixed()
    timms = BinaryCrossEntropy(smoothing=0, target_threshold=threshold)
    torch.testing.assert_close(binary_cross_entropy(logits, targets, threshold), timms(logits, targets))


def test_binary_cross_entropy_of_deit_3_takes_both_labels_as_right() -> None:
    logits, targets = _mixed()
    x, is_right = logits.double().numpy(), targets.numpy() > 0
    assert (is_right.sum(1) == 2).all()
    # -log(sigmoid(x)) = log(1 + exp(-x)) for a right class, -log(1 - sigmoid(x)) = log(1 + exp(x)) for the others
    want = np.log1p(np.exp(np.where(is_right, -x, x))).mean()
    assert binary_cross_entropy(logits, targets, 0.0).item() == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_losses_are_float32_where_half_precision_overflows(dtype: torch.dtype) -> None:
    logits = torch.tensor([[60000.0, -60000.0, 0.0]] * 4).to(dtype).requires_grad_()
    targets = torch.tensor([[0.0, 1.0, 0.0]] * 4)
    exact = logits.detach().double().numpy()[0]
    ours = soft_cross_entropy(logits, targets)
    assert ours.dtype == torch.float32
    assert ours.item() == pytest.approx(exact[0] - exact[1], rel=1e-6)
    binary = binary_cross_entropy(logits, targets, 0.0)
    assert binary.dtype == torch.float32
    assert binary.item() == pytest.approx((exact[0] - exact[1] + np.log(2)) / 3, rel=1e-6)
    (ours + binary).backward()
    assert logits.grad is not None and torch.isfinite(logits.grad).all()


def test_losses_compile_as_one_graph() -> None:
    logits, targets = _mixed()
    for loss, more in ((soft_cross_entropy, ()), (binary_cross_entropy, (0.0,)), (binary_cross_entropy, (-1.0,))):
        compiled = torch.compile(loss, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(logits, targets, *more), loss(logits, targets, *more))
