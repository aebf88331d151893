"""One training step: its pieces, its limits, what it counts, how it is exchanged and compiled, and that it never waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from deit_fast.train.dist import joined_world
from tests.train.learners import STEPS, copied_weights, distilling, losses_of, random_batch, small_learner
from tests.train.sessions import Session

_PLAIN: dict[str, Any] = {"model.drop_path": 0.0, "optim.name": "sgd", "optim.momentum": 0.0, "optim.weight_decay": 0.0}


@pytest.mark.parametrize("pieces", [2, 5])  # of 12 views: 6 and 6; 3, 3, 3 and 3, for chunk() makes no fifth
@pytest.mark.parametrize("size", [12, 11])
def test_pieces_give_the_gradient_of_the_whole(pieces: int, size: int) -> None:
    ends = []
    for count in (1, pieces):
        learner = small_learner({**_PLAIN, "train.accumulate": count, "optim.lr": 0.1})
        first = copied_weights(learner)
        for step in range(2):
            learner.train_on(random_batch(step, size), 0, step)
        window = learner.step.read()
        ends.append((copied_weights(learner), window))
    (whole, one), (accumulated, several) = ends
    for name, value in whole.items():
        torch.testing.assert_close(accumulated[name], value, rtol=1e-4, atol=1e-6)
    assert any(not torch.equal(value, first[name]) for name, value in whole.items())
    assert several.loss == pytest.approx(one.loss, rel=1e-5)
    assert several.top1 == one.top1


def test_clipping_limits_how_far_a_step_goes() -> None:
    learner = small_learner({**_PLAIN, "optim.lr": 0.5, "optim.clip": 1e-3, "schedule.min_lr": 0.5})
    before = copied_weights(learner)
    learner.train_on(random_batch(), 0, 0)
    squares = [(value - before[name]).double().square().sum() for name, value in copied_weights(learner).items()]
    assert float(torch.stack(squares).sum().sqrt()) == pytest.approx(0.5 * 1e-3, rel=1e-3)


def test_fp16_takes_no_step_with_gradients_that_overflow() -> None:
    learner = small_learner({**_PLAIN, "train.amp": "fp16", "optim.clip": 1.0})
    before = copied_weights(learner)
    learner.step.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60, growth_interval=1000)
    learner.train_on(random_batch(), 0, 0)
    assert all(torch.equal(value, before[name]) for name, value in copied_weights(learner).items())
    assert learner.step.scaler.get_scale() == 2.0**59
    learner.step.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**4)
    learner.train_on(random_batch(), 0, 1)
    assert any(not torch.equal(value, before[name]) for name, value in copied_weights(learner).items())
    window = learner.step.read()
    assert window.first_bad is None  # the loss itself was in order


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_window_counts_losses_and_correct_decisions(pieces: int) -> None:
    learner = small_learner({**_PLAIN, "train.accumulate": pieces})
    losses, num_correct = [], 0
    for step in range(4):
        batch = random_batch(step, size=10)
        with torch.no_grad():
            logits = learner.model(batch.images)
        losses.append(float(-(batch.targets * logits.log_softmax(1)).sum(1).mean()))
        num_correct += int((logits.argmax(1) == batch.targets.argmax(1)).sum())
        learner.train_on(batch, 0, step)
        assert learner.step.num_unread == step + 1
    window = learner.step.read()
    assert (window.num_steps, learner.step.num_unread, window.first_bad, window.bad_here) == (4, 0, None, False)
    assert window.loss == pytest.approx(sum(losses) / 4, rel=1e-5)
    assert window.top1 == pytest.approx(100 * num_correct / 40)
    learner.train_on(random_batch(4, size=10), 0, 4)
    assert learner.step.read().num_steps == 1  # and nothing is left of the window before


@pytest.mark.parametrize("pieces", [1, 3])
def test_a_window_knows_the_first_step_without_a_finite_loss(pieces: int) -> None:
    learner = small_learner({**_PLAIN, "train.accumulate": pieces})
    for step in range(4):
        batch = random_batch(step)
        if step == 2:
            batch.images[-1] = float("nan")  # in the last piece alone
        learner.train_on(batch, 0, step)
    window = learner.step.read()
    assert (window.first_bad, window.bad_here) == (2, True)
    learner.train_on(random_batch(), 0, 4)
    assert learner.step.read().first_bad == 0  # the weights are lost


def test_what_a_step_draws_depends_on_its_place_alone() -> None:
    def loss(seed: int, epoch: int, step: int, drawn_before: int) -> float:
        learner = small_learner({"model.drop_path": 0.5, "train.seed": seed})
        learner.model.load_state_dict(weights)
        torch.rand(drawn_before)
        learner.train_on(random_batch(), epoch, step)
        return learner.step.read().loss

    weights = copied_weights(small_learner({"model.drop_path": 0.5}))
    assert loss(0, 1, 2, drawn_before=0) == loss(0, 1, 2, drawn_before=7)
    assert len({loss(*place, drawn_before=0) for place in ((0, 1, 2), (1, 1, 2), (0, 2, 2), (0, 1, 3))}) == 4


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.slow
def test_compiled_steps_follow_plain_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces: int) -> None:
    """With all of torch.compile but its code generator, which takes minutes."""
    compile_with = torch.compile
    modules: list[Any] = []

    def traced(module: Any, *, mode: str, dynamic: bool | None = None) -> Any:
        assert mode == "default"
        modules.append(module)
        return compile_with(module, backend="eager", dynamic=dynamic, fullgraph=True)

    monkeypatch.setattr(torch, "compile", traced)
    changes = {**distilling(tmp_path), "train.accumulate": pieces, "train.ema_decay": 0.9, "model.drop_path": 0.0}
    plain = small_learner(changes)
    compiled = small_learner({**changes, "train.compile": "default", "distil.teacher_compile": True})
    assert losses_of(compiled) == pytest.approx(losses_of(plain), rel=1e-6)
    assert len(modules) == 2  # model with its loss, and teacher
    assert plain.average is not None
    assert compiled.average is not None
    averages = compiled.average.module.state_dict()
    for name, value in plain.average.module.state_dict().items():
        torch.testing.assert_close(averages[name], value)


_WAITING_OPERATORS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "repeat_interleave")
_WAITING_FUNCTIONS = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__", "cuda")


class _Waited(AssertionError):
    pass


class _NoWaitingOperators(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.name().removeprefix("aten::").partition(".")[0] in _WAITING_OPERATORS:
            raise _Waited(func.name())
        return func(*args, **(kwargs or {}))


class _NoWaitingFunctions(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in _WAITING_FUNCTIONS:
            raise _Waited(func.__name__)
        return func(*args, **(kwargs or {}))


@contextmanager
def _no_waiting() -> Iterator[None]:
    """On the CPU, where nothing has to be waited for, a stand-in: what would wait for a CUDA device raises _Waited."""
    with _NoWaitingOperators(), _NoWaitingFunctions():
        yield


@pytest.mark.parametrize("name", [*STEPS, "distillation"])
def test_nothing_in_a_step_waits_for_the_device(name: str, tmp_path: Path) -> None:
    changes = distilling(tmp_path) if name == "distillation" else STEPS[name]
    learner = small_learner(changes)
    batches = [random_batch(step) for step in range(3)]
    with _no_waiting():
        for step, batch in enumerate(batches):
            learner.train_on(batch, 0, step)
    assert learner.step.read().first_bad is None


@pytest.mark.parametrize(
    "wait",
    [
        lambda tensor: tensor.item(), lambda tensor: bool(tensor > 0), lambda tensor: float(tensor),
        lambda tensor: tensor.cpu(), lambda tensor: tensor.tolist(), lambda tensor: tensor[tensor > 0],
    ],
)  # fmt: skip
def test_waiting_would_be_found(wait: Callable[[torch.Tensor], object]) -> None:
    tensor = torch.ones(())
    with _no_waiting(), pytest.raises(_Waited):
        wait(tensor)
    learner = small_learner()
    learner.train_on(random_batch(), 0, 0)
    with _no_waiting(), pytest.raises(_Waited):
        learner.step.read()


def take_a_step(words: list[str]) -> None:
    """Of one of two ranks, for each way to compress gradients. words: the folder of the results, then the ways."""
    folder, *compressions = words
    with joined_world("cpu") as world:
        for compression in compressions:
            torch.manual_seed(0)
            options = {
                "model.drop_path": 0.0, "optim.name": "sgd", "optim.momentum": 0.0, "optim.weight_decay": 0.0, "optim.lr": 1.0,
                "schedule.min_lr": 1.0, "train.gradient_compression": compression,
                "train.accumulate": 1 + (compression == "off"),
            }  # fmt: skip
            learner = small_learner(options, world=world)
            before = copied_weights(learner)
            learner.train_on(random_batch(world.rank), 0, 0)
            window = learner.step.read()
            gradients = {name: before[name] - value for name, value in copied_weights(learner).items()}
            torch.save((gradients, window.loss, window.top1), f"{folder}/{compression}{world.rank}")


@pytest.mark.slow
def test_two_ranks_take_the_step_of_both_batches(tmp_path: Path) -> None:
    both = Session([str(tmp_path), "off", "bf16"], tmp_path / "stderr.txt", 2, program=take_a_step)
    assert both.wait() == 0, both.stderr
    alone = small_learner(_PLAIN)
    batches = [random_batch(rank) for rank in range(2)]
    logits = alone.model(torch.cat([batch.images for batch in batches]))
    targets = torch.cat([batch.targets for batch in batches])
    loss = -(targets * logits.log_softmax(1)).sum(1).mean()
    loss.backward()
    for compression, tolerance in (("off", 1e-5), ("bf16", 1e-2)):
        ranks = [torch.load(tmp_path / f"{compression}{rank}") for rank in range(2)]
        errors = []
        for name, parameter in alone.model.named_parameters():
            assert parameter.grad is not None
            assert torch.equal(ranks[0][0][name], ranks[1][0][name])
            scale = float(parameter.grad.abs().max())
            torch.testing.assert_close(ranks[0][0][name], parameter.grad, rtol=0, atol=tolerance * scale + 1e-6)
            errors.append(float((ranks[0][0][name] - parameter.grad).abs().max()) / max(scale, 1e-6))
        assert (max(errors) > 1e-4) == (compression == "bf16")  # it is in force
        assert ranks[0][1:] == ranks[1][1:]
        assert ranks[0][1] == pytest.approx(loss.item(), rel=1e-5)
