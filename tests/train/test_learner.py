"""What a model cannot do with a run's images is one line before the run: sides, single images, a missing compiler."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from deit_fast.config import UserError
from deit_fast.model.patches import LinearPatches
from deit_fast.train.learner import Learner, check_compiler, smallest_piece
from deit_fast.train.optim import load_optimizer
from tests.tiny_runs import TINY
from tests.train.learners import CPU, copied_weights, distilling, losses_of, random_batch, small_learner

_CONVNET: dict[str, Any] = {"model.name": "resnet10t", "model.options": {}}
_RAMP: dict[str, Any] = {"data.start_resolution": 32, "data.resolution": 64, "train.epochs": 3}


def test_a_ramp_needs_a_model_and_a_teacher_that_take_it(tmp_path: Path) -> None:
    cait: dict[str, Any] = {"model.name": "cait_xxs24_224", "model.options": {**TINY, "depth_token_only": 1}}
    with pytest.raises(UserError, match=r"model\.name=cait_xxs24_224: the run has images of 32, 64 pixels, .* take 32"):
        small_learner({**_RAMP, **cait})
    for name in ("deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "deit3_small_patch16_224"):
        learner = small_learner({**_RAMP, "model.name": name})
        for number, side in enumerate((32, 64)):
            learner.train_on(random_batch(number, side=side), 0, number)
        assert learner.model.training

    small_learner({**_RAMP, **distilling(tmp_path), **_CONVNET, "distil.kind": "hard"})
    options = cait["model.options"]
    torch.save(timm.create_model("cait_xxs24_224", num_classes=10, img_size=64, **options).state_dict(), tmp_path / "cait.pth")
    fixed: dict[str, Any] = {
        "distil.teacher": "cait_xxs24_224", "distil.teacher_options": options, "distil.teacher_weights": f"{tmp_path}/cait.pth",
    }  # fmt: skip
    message = r"distil\.teacher=cait_xxs24_224: the run has images of 32, 64 pixels, and the model does not take 32"
    with pytest.raises(UserError, match=message):
        small_learner({**_RAMP, **_CONVNET, **fixed, "distil.kind": "hard"})
    torch.save(timm.create_model("resnet10t", num_classes=10).state_dict(), tmp_path / "convnet.pth")
    convnet = {"distil.teacher": "resnet10t", "distil.teacher_options": {}, "distil.teacher_weights": f"{tmp_path}/convnet.pth"}
    small_learner({**_RAMP, **_CONVNET, **convnet, "distil.kind": "hard"})


@pytest.mark.slow
def test_compiled_steps_follow_the_side_and_the_patches() -> None:
    """Steps without random draws are those that are not compiled; one that leaves patches out is another."""
    dropping = {"model.patch_dropout": 0.5, "model.patch_dropout_tail": 0.5, "train.epochs": 2, "model.drop_path": 0.0}
    changes = {**_RAMP, **dropping, "model.options": {**TINY, "depth": 1}}

    def losses(mode: str, *places: tuple[int, int]) -> list[float]:
        learner, found = small_learner({**changes, "train.compile": mode}), []
        for step, (epoch, side) in enumerate(places):
            learner.train_on(random_batch(step, side=side), epoch, step)
            found.append(learner.step.read().loss)
        return found

    compiled, plain = losses("default", (1, 64), (1, 32), (0, 32)), losses("off", (1, 64), (1, 32), (1, 32))
    assert compiled[:2] == pytest.approx(plain[:2], rel=1e-5)
    assert compiled[2] != pytest.approx(plain[2], rel=1e-4)


def test_batch_norm_wants_more_than_one_image() -> None:
    single = {**_CONVNET, "data.batch_size": 1}
    with pytest.raises(UserError, match=r"data\.batch_size: the model's BatchNorm cannot train on one image"):
        small_learner(single)
    with pytest.raises(UserError, match=r"BatchNorm cannot train"):
        small_learner({**_CONVNET, "data.batch_size": 7, "train.accumulate": 3})  # 3, 3 and 1
    for changes in ({**single, "train.mode": "eval"}, {**single, "data.resolution": 64}, {"data.batch_size": 1}):
        learner = small_learner(changes)
        before = copied_weights(learner)
        learner.train_on(random_batch(0, size=1, side=learner.config.data.resolution), 0, 0)
        assert any(not torch.equal(value, before[name]) for name, value in copied_weights(learner).items())


def test_smallest_piece_is_pytorchs() -> None:
    for batch_size, num_pieces in itertools.product(range(1, 13), repeat=2):
        pieces = torch.zeros(batch_size).chunk(num_pieces)
        assert smallest_piece(batch_size, num_pieces) == min(map(len, pieces)), (batch_size, num_pieces)


def test_compile_wants_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CC", "CXX"):
        monkeypatch.delenv(name, raising=False)
    check_compiler("default", CPU)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"train\.compile=default: needs a C\+\+ compiler, and there is no g\+\+ in PATH"):
        small_learner({"train.compile": "default"})
    small_learner()
    if torch.version.cuda is not None:
        with pytest.raises(UserError, match=r"(needs a C compiler, and there is no gcc or clang in PATH|Triton)"):
            check_compiler("max-autotune", torch.device("cuda"))
    monkeypatch.setenv("CXX", str(tmp_path / "c++"))
    with pytest.raises(UserError, match=r"CXX=.*c\+\+ is none"):
        check_compiler("default", CPU)
    (tmp_path / "c++").touch(mode=0o755)
    check_compiler("default", CPU)


def test_patches_embedded_by_a_linear_layer_learn_the_same() -> None:
    ends = []
    for patch_embed in ("conv", "linear"):
        learner = small_learner({"train.patch_embed": patch_embed, "train.ema_decay": 0.9, "optim.eps": 1e-4})
        losses_of(learner)
        assert learner.average is not None
        for model in (learner.model, learner.average.module):
            assert (LinearPatches in map(type, model.modules())) == (patch_embed == "linear")
        ends.append((copied_weights(learner), learner.average.module.state_dict()))
    for convolution, linear in zip(*ends, strict=True):
        assert list(linear) == list(convolution)
        for name, wanted in convolution.items():
            torch.testing.assert_close(linear[name], wanted, rtol=1e-3, atol=1e-5)
    with pytest.raises(UserError, match=r"train\.patch_embed=linear: ResNet cuts its images into no patches; want conv"):
        small_learner({**_CONVNET, "train.patch_embed": "linear"})


def _weights_after(learner: Learner, *places: tuple[int, int]) -> dict[str, torch.Tensor]:
    for epoch, step in places:
        learner.train_on(random_batch(step), epoch, step)
    return copied_weights(learner)


def _equal(weights: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(value, others[name]) for name, value in weights.items())


def test_patches_are_left_out_by_the_place_of_a_step_and_not_in_the_tail() -> None:
    changes: dict[str, Any] = {"model.patch_dropout": 0.5, "model.patch_dropout_tail": 0.5, "train.epochs": 4}
    without = {"train.epochs": 4}
    assert _equal(_weights_after(small_learner(changes), (2, 1)), _weights_after(small_learner(without), (2, 1)))
    assert not _equal(_weights_after(small_learner(changes), (1, 1)), _weights_after(small_learner(without), (1, 1)))

    whole, resumed = small_learner(changes), small_learner(changes)
    _weights_after(whole, (1, 5), (1, 6))
    resumed.model.load_state_dict(whole.model.state_dict())
    load_optimizer(resumed.optimizer, copy.deepcopy(whole.optimizer.state_dict()))
    whole.set_mode()  # as after an evaluation
    assert _equal(_weights_after(whole, (1, 7), (2, 0), (1, 8)), _weights_after(resumed, (1, 7), (2, 0), (1, 8)))
