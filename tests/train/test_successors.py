"""Each system that grew out of DeiT, very small: it learns, goes on after an interruption, and two ranks are as one."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from deit_fast.data.load.loader import Batch, train_loader
from deit_fast.plan.training import train
from deit_fast.train.checkpoint import load_checkpoint
from deit_fast.train.dist import joined_world
from tests.tiny_runs import TINY, MakeRun, tiny_config
from tests.train.learners import CPU, copied_weights, random_batch, small_learner
from tests.train.sessions import Session

_LAMB = {"optim.name": "lamb", "optim.lr": 2e-2, "optim.lr_batch_size": None}
_DEIT3 = {
    **_LAMB, "model.name": "deit_small_patch16_LS", "model.options": TINY, "model.drop_path_rates": "constant",
    "train.loss": "bce", "augment.auto_augment": "3a", "augment.color_jitter": 0.3, "augment.label_smoothing": 0.0,
}  # fmt: skip
_RESMLP = {"patch_size": 8, "embed_dim": 24, "num_blocks": 2}
_PATCHCONVNET = {"embed_dim": 64, "depth": 2}
SUCCESSORS: dict[str, dict[str, Any]] = {
    "DeiT III": _DEIT3,
    "CaiT": {
        "optim.lr": 5e-3,
        "model.name": "cait_xxs24_224",
        "model.options": {**TINY, "init_values": 0.1},
        "model.drop_path_rates": "constant",
    },
    "ResMLP": {
        **_LAMB,
        "model.name": "resmlp_big_24_patch16_224",
        "model.options": _RESMLP,
        "model.drop_path_rates": "constant",
    },
    "parallel blocks": {**_DEIT3, "model.name": "deit_small_patch16_18x2_LS"},
    "hMLP": {**_DEIT3, "model.options": {**TINY, "embed_layer": "hmlp"}},
    "attention alone": {**_DEIT3, "model.trains": "attention"},
    "PatchConvNet": {
        **_LAMB,
        "model.name": "patchconvnet_s60",
        "model.options": _PATCHCONVNET,
        "model.drop_path_rates": "constant",
    },
    "Cosub": {**_DEIT3, "distil.kind": "cosub", "model.drop_path": 0.25, "model.drop_path_kind": "skip"},
}
# two ranks draw their own stochastic depth: none here. Rates that show the gradient in a step of SGD.
_ONE_STEP = {
    "model.drop_path": 0.0, "optim.name": "sgd", "optim.momentum": 0.0, "optim.weight_decay": 0.0, "optim.lr": 1.0,
    "schedule.min_lr": 1.0,
}  # fmt: skip


@pytest.mark.parametrize("name", SUCCESSORS)
def test_20_steps_lower_the_loss(digits: Path, tmp_path: Path, name: str) -> None:
    """On 64 views of the demonstration's digits, again and again."""
    plain = {"augment.mixup": None, "augment.cutmix": None, "augment.erase": 0.0}
    config = tiny_config(digits, tmp_path, **SUCCESSORS[name], **plain)
    loader = train_loader(config.data, config.augment, seed=0, rank=0, world_size=1, device=CPU)
    loader.set_epoch(0)
    batch = next(iter(loader)).copy()
    loader.close()
    learner = small_learner({**SUCCESSORS[name], "data.batch_size": 64})
    losses = []
    for step in range(21):
        learner.train_on(batch, 0, step)
        losses.append(learner.step.read().loss)
    assert losses[20] < 0.92 * losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("name", SUCCESSORS)
def test_an_interrupted_run_goes_on_to_the_same_weights(
    tiny_run: MakeRun, tmp_path: Path, at_step: Callable[[int, Callable[[], None]], None], name: str
) -> None:
    options = {"data.batch_size": 32, "data.subset": 96, "train.eval_every": 2, "train.resume": True, **SUCCESSORS[name]}
    whole = train(tiny_run(**options, **{"run.dir": str(tmp_path / "whole")}), [])
    at_step(5, lambda: os.kill(os.getpid(), signal.SIGTERM))  # the second of epoch 1
    parts = {**options, "run.dir": str(tmp_path / "parts")}
    assert train(tiny_run(**parts), [])["step"] == 2
    assert train(tiny_run(**parts), [])["weights_sha256"] == whole["weights_sha256"]
    averages = [load_checkpoint(tmp_path / run / "checkpoints/last.pt")["state_dict_ema"] for run in ("whole", "parts")]
    assert all(torch.equal(value, averages[1][key]) for key, value in averages[0].items())


# beside the successors, a convnet: its batch normalisation has the statistics of all ranks only if asked
_CASES = SUCCESSORS | {"convnet": {"model.name": "resnet10t", "model.options": {}, "train.sync_batchnorm": "all"}}


def _one_step(name: str) -> dict[str, Any]:
    """Changes with which a step shows the gradient."""
    return {**_CASES[name], **_ONE_STEP}


def take_a_step_of_each(words: list[str]) -> None:
    """Of one of two ranks. words: the folder of the results."""
    with joined_world("cpu") as world:
        for name in _CASES:
            learner = small_learner(_one_step(name), world=world)
            before = copied_weights(learner)
            learner.train_on(random_batch(world.rank), 0, 0)
            torch.save((before, copied_weights(learner), learner.step.read().loss), f"{words[0]}/{name}{world.rank}")


@pytest.mark.slow
def test_two_ranks_take_the_step_of_one_with_both_batches(tmp_path: Path) -> None:
    both = Session([str(tmp_path)], tmp_path / "stderr.txt", 2, program=take_a_step_of_each)
    assert both.wait() == 0, both.stderr
    for name in _CASES:
        alone = small_learner({**_one_step(name), "data.batch_size": 24})
        before = copied_weights(alone)
        alone.train_on(_joined(random_batch(0), random_batch(1)), 0, 0)
        after, loss = copied_weights(alone), alone.step.read().loss
        ranks = [torch.load(tmp_path / f"{name}{rank}") for rank in range(2)]
        assert ranks[0][2] == ranks[1][2] == pytest.approx(loss, rel=1e-5), name
        for key, value in after.items():
            assert torch.equal(ranks[0][1][key], ranks[1][1][key]), (name, key)
            assert torch.equal(ranks[0][0][key], before[key]), (name, key)
            scale = float((value - before[key]).abs().max())
            torch.testing.assert_close(ranks[0][1][key], value, rtol=1e-5, atol=1e-5 * scale + 1e-6, msg=f"{name}: {key}")
        assert any(not torch.equal(value, before[key]) for key, value in after.items()), name


def _joined(first: Batch, second: Batch) -> Batch:
    names = ("images", "targets", "samples", "views")
    return Batch(*(torch.cat([getattr(first, name), getattr(second, name)]) for name in names))
