"""Losses against timm's, and against the papers' formulas in float64."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from timm.loss import BinaryCrossEntropy, SoftTargetCrossEntropy

from deit_fast.config import DistilConfig, TrainConfig, UserError
from deit_fast.train.objective import (
    Objective,
    binary_cross_entropy,
    cosub_loss,
    distillation_loss,
    hard_distillation,
    soft_cross_entropy,
    soft_distillation,
)


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
    for loss, more in ((soft_cross_entropy, ()), (binary_cross_entropy, (0.0,)), (binary_cross_entropy, (None,))):
        compiled = torch.compile(loss, backend="eager", fullgraph=True)
        torch.testing.assert_close(compiled(logits, targets, *more), loss(logits, targets, *more))


DTYPES = [torch.float32, torch.float16, torch.bfloat16]
SCALES: list[Literal["code", "paper"]] = ["code", "paper"]


def _logits(dtype: torch.dtype = torch.float32, spread: float = 3.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    student = spread * torch.randn(6, 50, generator=generator)
    teacher = spread * torch.randn(6, 50, generator=generator)
    return student.to(dtype).requires_grad_(), teacher.to(dtype).requires_grad_()


def _log_softmax(logits: torch.Tensor, tau: float = 1.0) -> Any:
    x = logits.detach().double().numpy() / tau
    x = x - x.max(1, keepdims=True)
    return x - np.log(np.exp(x).sum(1, keepdims=True))


def _divergence(student: torch.Tensor, teacher: torch.Tensor, tau: float) -> float:
    """tau ** 2 * KL(teacher || student), summed over the batch."""
    p, q = _log_softmax(teacher, tau), _log_softmax(student, tau)
    return float(tau**2 * (np.exp(p) * (p - q)).sum())


def _answers(kind: Literal["hard", "soft"], logits: torch.Tensor) -> torch.Tensor:
    return Objective(torch.nn.Identity(), TrainConfig(), DistilConfig(kind=kind)).answers(logits)


@pytest.mark.parametrize("dtype", DTYPES)
def test_hard_distillation_takes_the_teachers_decision_as_the_label(dtype: torch.dtype) -> None:
    student, teacher = _logits(dtype)
    labels = teacher.detach().float().numpy().argmax(1)
    want = -_log_softmax(student)[np.arange(6), labels].mean()
    loss = hard_distillation(student, _answers("hard", teacher))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(want, rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("tau", [1.0, 3.0])
def test_soft_distillation_is_the_divergence(dtype: torch.dtype, tau: float) -> None:
    student, teacher = _logits(dtype)
    want = _divergence(student, teacher, tau)
    code, paper = (soft_distillation(student, teacher, tau, scale) for scale in SCALES)
    assert code.dtype == paper.dtype == torch.float32
    assert code.item() == pytest.approx(want / (6 * 50), rel=1e-5)
    assert paper.item() == pytest.approx(want / 6, rel=1e-5)


def test_half_precision_that_would_overflow() -> None:
    # divided by tau, and summed over the batch, both exceed float16's 65504
    student, teacher = _logits(torch.float16, spread=10000.0)
    loss = soft_distillation(student, teacher, 0.1, "paper")
    assert loss.item() == pytest.approx(_divergence(student, teacher, 0.1) / 6, rel=1e-5)
    assert loss.item() > 1000
    loss.backward()
    assert student.grad is not None and torch.isfinite(student.grad).all()


def test_a_student_equal_to_its_teacher_has_nothing_to_learn() -> None:
    student, _ = _logits()
    loss = soft_distillation(student, student.detach() + 5.0, 3.0, "paper")
    loss.backward()
    assert student.grad is not None
    assert abs(loss.item()) < 1e-5 and student.grad.abs().max() < 1e-6


def test_gradients_are_the_formulas_and_none_goes_to_the_teacher() -> None:
    tau = 3.0
    student, teacher = _logits()
    soft_distillation(student, teacher, tau, "paper").backward()
    assert student.grad is not None and teacher.grad is None
    # d/dx of tau^2 * sum(p * log(p / q)) / B, q = softmax(x / tau), is tau * (q - p) / B
    want = tau * (np.exp(_log_softmax(student, tau)) - np.exp(_log_softmax(teacher, tau))) / 6
    np.testing.assert_allclose(student.grad.numpy(), want, atol=1e-6)

    student, teacher = _logits()
    hard_distillation(student, _answers("hard", teacher)).backward()
    assert student.grad is not None and teacher.grad is None
    labels = np.eye(50)[teacher.detach().numpy().argmax(1)]
    np.testing.assert_allclose(student.grad.numpy(), (np.exp(_log_softmax(student)) - labels) / 6, atol=1e-6)


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("alpha", [0.0, 0.1, 1.0])
def test_losses_are_weighed_by_alpha(kind: Literal["hard", "soft"], alpha: float) -> None:
    student, teacher = _logits()
    config = DistilConfig(kind=kind, alpha=alpha, tau=3.0, soft_scale="paper")
    base = torch.tensor(2.5, requires_grad=True)
    if kind == "hard":
        distillation = -_log_softmax(student)[np.arange(6), teacher.detach().numpy().argmax(1)].mean()
    else:
        distillation = _divergence(student, teacher, 3.0) / 6
    loss = distillation_loss(config, base, student, _answers(kind, teacher))
    assert loss.item() == pytest.approx((1 - alpha) * 2.5 + alpha * distillation, rel=1e-5)
    loss.backward()
    assert base.grad is not None and base.grad.item() == pytest.approx(1 - alpha)


def test_a_teacher_of_other_classes_is_refused() -> None:
    with pytest.raises(UserError, match=r"distil\.teacher=regnety_160: gives 40 classes, the model has 50; want a teacher"):
        distillation_loss(DistilConfig(kind="soft"), torch.tensor(1.0), _logits()[0], torch.randn(6, 40))


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_compiles_as_one_graph(kind: Literal["hard", "soft"]) -> None:
    student, teacher = _logits()
    config, base, answers = DistilConfig(kind=kind), torch.tensor(2.5), _answers(kind, teacher)
    compiled = torch.compile(distillation_loss, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(config, base, student, answers), distillation_loss(config, base, student, answers))


def _sigmoid(x: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return 1 / (1 + np.exp(-x))


@pytest.mark.parametrize("alpha", [0.5, 0.3])
def test_cosub_is_the_papers_formula(alpha: float) -> None:
    """A quarter each of two losses of the labels and two of the other submodel's probabilities, for alpha 0.5."""
    (first, targets), second = _mixed(), _mixed()[0].flip(0)
    x, z, y = first.double().numpy(), second.double().numpy(), (targets.numpy() > 0).astype(float)

    def binary(logits: Any, wanted: Any) -> Any:
        return -(wanted * np.log(_sigmoid(logits)) + (1 - wanted) * np.log(1 - _sigmoid(logits))).mean()

    labels = (binary(x, y) + binary(z, y)) / 2
    each_other = (binary(x, _sigmoid(z)) + binary(z, _sigmoid(x))) / 2
    loss = cosub_loss(TrainConfig(loss="bce"), alpha, first, second, targets)
    assert loss.item() == pytest.approx((1 - alpha) * labels + alpha * each_other, rel=1e-6)


def test_cosub_with_cross_entropy_has_softmaxes() -> None:
    (first, targets), second = _mixed(), _mixed()[0].flip(0)
    x, z, y = first.double().numpy(), second.double().numpy(), targets.double().numpy()

    def log_softmax(logits: Any) -> Any:
        return logits - np.log(np.exp(logits).sum(1, keepdims=True))

    def cross(logits: Any, wanted: Any) -> Any:
        return -(wanted * log_softmax(logits)).sum(1).mean()

    wanted = (cross(x, y) + cross(z, y) + cross(x, np.exp(log_softmax(z))) + cross(z, np.exp(log_softmax(x)))) / 4
    assert cosub_loss(TrainConfig(), 0.5, first, second, targets).item() == pytest.approx(wanted, rel=1e-6)


def test_in_cosub_no_gradient_goes_to_the_soft_targets() -> None:
    """The gradient of the first logits: what they learn from the labels and from the other's probabilities, held fixed."""
    (first, targets), second = _mixed(), _mixed()[0].flip(0)
    x = first.double().requires_grad_()
    cosub_loss(TrainConfig(loss="bce"), 0.5, x, second, targets).backward()
    # of the binary cross-entropy, which is a mean over all elements: (sigmoid(x) - target) / number
    wanted = 0.25 * ((x.sigmoid() - (targets > 0).double()) + (x.sigmoid() - second.double().sigmoid())) / x.numel()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, wanted.detach(), rtol=1e-5, atol=1e-9)


class _Doubling(torch.nn.Module):
    """Logits that are a linear function of the images, except for what a dropout drops."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []
        self.drop, self.head = torch.nn.Dropout(rate), torch.nn.Linear(12, 11)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.drop(images.flatten(1)))
        self.seen.append(logits)
        return logits


def test_both_submodels_see_every_image_and_only_chance_parts_them() -> None:
    targets = _mixed()[1]
    images = torch.randn(6, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    for rate, are_equal in ((0.0, True), (0.5, False)):
        torch.manual_seed(0)
        model = _Doubling(rate)
        loss, numbers = Objective(model, TrainConfig(loss="bce"), DistilConfig(kind="cosub"))(images, targets)
        first, second = model.seen[0].split(6)
        assert len(model.seen) == 1
        assert torch.equal(first, second) == are_equal
        torch.testing.assert_close(loss, cosub_loss(TrainConfig(loss="bce"), 0.5, first, second, targets))
        assert numbers.tolist() == [loss.item(), (first.argmax(1) == targets.argmax(1)).sum().item()]
        if are_equal:  # then each is its own soft target
            wanted = 0.5 * binary_cross_entropy(first, targets, 0.0) + 0.5 * binary_cross_entropy(first, first.sigmoid(), None)
            torch.testing.assert_close(loss, wanted)
