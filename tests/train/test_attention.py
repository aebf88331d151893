"""train.attention: the kernel of every attention of a run, and requests that are refused before it begins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from deit_fast.benchmarks.step import Operators
from deit_fast.config import Decides, EvalConfig, UserError
from deit_fast.train.evaluate import Decision
from tests.tiny_runs import TINY
from tests.train.learners import TEACHER, copied_weights, distilling, random_batch, small_config, small_learner

FLASH, MATH = "aten::_scaled_dot_product_flash_attention_for_cpu", "aten::_safe_softmax"


@contextmanager
def _attentions() -> Iterator[dict[str, int]]:
    """How often each kernel that a CPU has is called inside the block."""
    found: dict[str, int] = {}
    with Operators() as operators:
        yield found
    found |= {name: operators.names.count(name) for name in (FLASH, MATH)}


@pytest.mark.parametrize(("kernel", "used", "other"), [("auto", FLASH, MATH), ("flash", FLASH, MATH), ("math", MATH, FLASH)])
def test_model_teacher_and_evaluation_use_the_kernel(kernel: str, used: str, other: str, tmp_path: Path) -> None:
    learner = small_learner({**distilling(tmp_path), "train.attention": kernel, "train.accumulate": 2})
    with _attentions() as found:
        learner.train_on(random_batch(), 0, 0)
    assert found == {used: 2 * (TINY["depth"] + TEACHER["depth"]), other: 0}
    decision = Decision(learner.model.eval(), EvalConfig(flip=True), attention=kernel)
    with _attentions() as found, torch.no_grad():
        decision(random_batch().images)
    assert found == {used: 2 * TINY["depth"], other: 0}


def test_the_choice_decides_time_and_not_weights() -> None:
    ends = []
    for kernel in ("auto", "flash", "math"):
        learner = small_learner({"train.attention": kernel, "optim.eps": 1e-4})
        for step in range(3):
            learner.train_on(random_batch(step), 0, step)
        ends.append(copied_weights(learner))
    for name, wanted in ends[0].items():
        assert torch.equal(ends[1][name], wanted)  # which is the CPU's own choice
        torch.testing.assert_close(ends[2][name], wanted, rtol=1e-3, atol=1e-5)
    for option in ("train.attention", "train.patch_embed"):
        assert option not in small_config().options_that_decide(Decides.WEIGHTS)
        assert option in small_config().options_that_decide(Decides.TIME)


@pytest.mark.parametrize("kernel", ["cudnn", "efficient"])
def test_a_kernel_that_the_device_lacks_is_refused(kernel: str) -> None:
    with pytest.raises(UserError, match=rf"train\.attention={kernel}: model\.name=deit_tiny_patch16_224 cannot use it here"):
        small_learner({"train.attention": kernel})


def test_a_kernel_is_tried_as_the_run_will_use_it(tmp_path: Path) -> None:
    """With its dropout, in its mode."""
    dropout = {"model.options": {**TINY, "attn_drop_rate": 0.1}}
    with pytest.raises(UserError, match=r"train\.attention=flash: model\.name=deit_tiny_patch16_224 cannot .*dropout"):
        small_learner({**dropout, "train.attention": "flash"})
    small_learner({**dropout, "train.attention": "flash", "train.mode": "eval"})
    convnet: dict[str, Any] = {"model.name": "resnet10t", "model.options": {}}
    for changes in (convnet, {**distilling(tmp_path), **convnet}):  # the teacher's attention is not the model's
        with pytest.raises(UserError, match=r"train\.attention=math: model\.name=resnet10t asks PyTorch for no attention"):
            small_learner({**changes, "train.attention": "math"})


def test_trying_a_kernel_changes_nothing_of_a_run() -> None:
    plain, tried = (small_learner({"train.attention": kernel}) for kernel in ("auto", "flash"))
    for wanted, got in zip(plain.model.parameters(), tried.model.parameters(), strict=True):
        assert torch.equal(got, wanted) and got.grad is None
    assert tried.model.training
