"""The step's time is a ratio: both loops must do the same work on the same batch, each with weights of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from deit_fast.__main__ import main
from deit_fast.benchmarks.step import (
    NUM_CLASSES,
    Operators,
    bare_loop,
    bench_step,
    num_operators,
    our_loop,
    synthetic_batch,
)
from deit_fast.config import UserError
from deit_fast.train.dist import World
from deit_fast.train.learner import Learner
from deit_fast.train.stop import Stop
from tests.train.learners import CPU, distilling, small_config

_OPTIONS = (
    "--model.name=deit_tiny_patch16_224", "--model.options=patch_size=8,embed_dim=24,depth=2,num_heads=2",
    "--model.drop_path=0", "--data.resolution=32", "--data.batch_size=4", "--train.device=cpu", "--bench.steps=2",
    "--bench.rounds=3",
)  # fmt: skip

LEARNERS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "ema, clip": {"train.ema_decay": 0.9, "optim.clip": 0.1},
    "sgd, bce, pieces": {"optim.name": "sgd", "train.loss": "bce", "augment.label_smoothing": 0.0, "train.accumulate": 2},
    "lamb, bf16, value": {"optim.name": "lamb", "train.amp": "bf16", "optim.clip": 0.01, "optim.clip_mode": "value"},
    "fp16": {"train.amp": "fp16"},
    "adaptive": {"optim.clip": 0.01, "optim.clip_mode": "adaptive"},
    "cosub": {"distil.kind": "cosub", "distil.alpha": 0.3},
    "cosub, bce": {"distil.kind": "cosub", "train.loss": "bce", "augment.label_smoothing": 0.0, "model.drop_path_kind": "skip"},
    "attention, patches": {"train.attention": "math", "train.patch_embed": "linear"},
}
DISTILLED: dict[str, dict[str, Any]] = {
    "soft": {},
    "hard": {"distil.kind": "hard"},
    "hard, in evaluation mode": {"distil.kind": "hard", "train.mode": "eval"},
    "soft, without a token": {"model.name": "deit_tiny_patch16_224", "distil.soft_scale": "paper"},
}


def test_the_command_says_how_long_a_step_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "step.json"
    assert main(["bench", "step", *_OPTIONS, "--train.log_every=3", f"--out={out}"]) == 0
    result = json.loads(out.read_text())
    assert [len(values) for values in result["rounds"].values()] == [3, 3]
    ours, bare = (result["rounds"][name] for name in ("ours", "bare"))
    assert result["ratio"]["median"] == pytest.approx(sorted(a / b for a, b in zip(ours, bare, strict=True))[1])
    assert result["images_per_second"]["ours"] == pytest.approx(4 / result["seconds_per_step"]["ours"]["median"])
    assert 0 < result["operators"]["bare"] <= result["operators"]["ours"]
    assert (result["precision"], result["memory_format"], result["batch_size"]) == ("float32", "channels_last", 4)
    assert result["kind"] == "step"
    assert "ours / bare" in capsys.readouterr().out


@pytest.mark.parametrize("name", [*LEARNERS, *DISTILLED])
def test_both_loops_learn_the_same(name: str, tmp_path: Path) -> None:
    changes = LEARNERS[name] if name in LEARNERS else distilling(tmp_path, NUM_CLASSES) | DISTILLED[name]
    config = small_config({"model.drop_path": 0.0, "schedule.min_lr": 1e-3, "optim.eps": 1e-4, **changes})
    world = World(0, 1, CPU)
    learner = Learner(config, world, num_classes=NUM_CLASSES, steps_per_epoch=1250)
    batch = synthetic_batch(config, CPU)
    bare, theirs = bare_loop(learner, batch)
    ours = our_loop(learner, batch, Stop(world))
    first = {key: value.clone() for key, value in learner.model.state_dict().items()}
    for _ in range(4):
        ours()
        bare()
    moved = False
    for key, value in learner.model.state_dict().items():
        torch.testing.assert_close(value, theirs.state_dict()[key], rtol=1e-3, atol=1e-5, msg=key)
        moved |= not torch.equal(value, first[key])
    assert moved


def test_our_step_calls_a_handful_of_operators_more(tmp_path: Path) -> None:
    """What counts the losses and correct decisions, once for each piece of a batch; the rest is what the bare loop calls."""
    settings: tuple[dict[str, Any], ...] = ({}, {"optim.clip": 1.0}, distilling(tmp_path, NUM_CLASSES))
    for changes in settings:
        config, world = small_config(changes), World(0, 1, CPU)
        learner = Learner(config, world, num_classes=NUM_CLASSES, steps_per_epoch=1250)
        batch = synthetic_batch(config, CPU)
        bare, _ = bare_loop(learner, batch)
        ours = our_loop(learner, batch, Stop(world))
        ours()
        bare()
        assert 0 < num_operators(ours) - num_operators(bare) <= 8


def test_both_loops_use_the_kernel_of_attention() -> None:
    config, world = small_config({"train.attention": "math"}), World(0, 1, CPU)
    learner = Learner(config, world, num_classes=NUM_CLASSES, steps_per_epoch=1250)
    batch = synthetic_batch(config, CPU)
    for step in (our_loop(learner, batch, Stop(world)), bare_loop(learner, batch)[0]):
        with Operators() as operators:
            step()
        assert "aten::_safe_softmax" in operators.names
        assert not any("flash" in name for name in operators.names)


def test_other_choices_are_measured_beside_ours(capsys: pytest.CaptureFixture[str]) -> None:
    changes = {"bench.choices": ("attention", "patch_embed"), "train.attention": "math", "bench.steps": 1, "bench.rounds": 2}
    result = bench_step(small_config(changes))
    choices = ["attention=flash", "patch_embed=linear"]
    assert list(result["choices_over_ours"]) == choices
    assert list(result["rounds"]) == ["ours", "bare", *choices]
    ratios = [choice / ours for choice, ours in zip(result["rounds"]["attention=flash"], result["rounds"]["ours"], strict=True)]
    assert result["choices_over_ours"]["attention=flash"]["max"] == max(ratios)
    assert list(result["lacks"]) == ["attention=cudnn", "attention=efficient"]
    printed = capsys.readouterr().out
    assert "patch_embed=linear / ours" in printed
    assert "left out: train.attention=cudnn: model.name=deit_tiny_patch16_224 cannot use it here" in printed
    with pytest.raises(UserError, match=r"bench\.choices=compile: compile is not known; want some of attention, patch_embed"):
        bench_step(small_config({"bench.choices": ("compile",)}))


def test_a_configuration_that_could_not_train_is_refused() -> None:
    with pytest.raises(UserError, match=r"train\.accumulate=13: want at most data\.batch_size=12"):
        bench_step(small_config({"train.accumulate": 13}))
