"""The same learning: a plain loop of timm and PyTorch and ours, on the same batches from the same weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from deit_fast.config import RunConfig
from deit_fast.train.dist import World
from deit_fast.train.trainer import Trainer
from tests.tiny_runs import TINY
from tests.train import plain_loop

MakeRun = Callable[..., RunConfig]
STEPS = 25  # of 10 in an epoch
NARROW = {"channels": (8, 16, 32, 64)}
TEACHER: dict[str, Any] = {"model_name": "resnet10t", "num_classes": 10, **NARROW}

RUNS: dict[str, dict[str, Any]] = {
    "plain": {},
    "ema": {"train.ema_decay": 0.98},
    "accumulated": {"train.accumulate": 3},  # pieces of 6, 6 and 4
    "hard": {"distil.kind": "hard"},
    "soft, without a token": {"distil.kind": "soft", "distil.tau": 3.0, "distil.alpha": 0.1},
    "all of it": {"distil.kind": "soft", "train.ema_decay": 0.98, "train.accumulate": 2},
}


def _ours(config: RunConfig) -> tuple[list[float], Trainer, list[plain_loop.Batch], dict[str, torch.Tensor]]:
    """Losses of so many steps, the trainer then, the batches, and the first weights."""
    trainer = Trainer(config, World(0, 1, torch.device("cpu")))
    first = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    losses: list[float] = []
    batches: list[plain_loop.Batch] = []
    epoch = 0
    while len(losses) < STEPS:
        for step, batch in enumerate(trainer.batches(epoch)):
            batches.append((batch.images.clone(), batch.targets.clone()))
            trainer.train_on(batch, epoch, step)
            losses.append(trainer.step.read().loss)
            if len(losses) == STEPS:
                break
        epoch += 1
    trainer.close()
    return losses, trainer, batches, first


@pytest.mark.parametrize("name", RUNS)
def test_the_same_losses_as_a_plain_loop(name: str, tiny_run: MakeRun, tmp_path: Path) -> None:
    changes = dict(RUNS[name])
    has_token = "distil.kind" in changes and "without" not in name
    architecture = f"deit_tiny{'_distilled' if has_token else ''}_patch16_224"
    teacher = None
    if "distil.kind" in changes:
        teacher = timm.create_model(**TEACHER)
        for module in teacher.modules():  # fresh batch statistics would let it say the same of all images
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.constant_(module.running_var, 0.05)  # type: ignore[arg-type]
        torch.save(teacher.state_dict(), tmp_path / "teacher.pth")
        changes |= {"distil.teacher": "resnet10t", "distil.teacher_options": NARROW}
        changes |= {"distil.teacher_weights": str(tmp_path / "teacher.pth")}
    config = tiny_run(
        **{
            "model.name": architecture, "model.drop_path": 0.0, "train.epochs": 4, "train.ema_decay": None,
            "schedule.update": "code", "schedule.warmup_epochs": 1, "train.channels_last": False,
            "optim.lr": 1e-3, "optim.lr_batch_size": None, "data.batch_size": 16, "data.subset": 160, **changes,
        }
    )  # fmt: skip
    losses, trainer, batches, first = _ours(config)
    plain = plain_loop.Plain(
        student={"model_name": architecture, "num_classes": 10, "img_size": 32, **TINY},
        weights=first,
        lr=1e-3,
        weight_decay=0.05,
        epochs=4,
        steps_per_epoch=trainer.steps_per_epoch,
        warmup_epochs=1,
        ema_decay=config.train.ema_decay,
        accumulate=config.train.accumulate,
        kind=config.distil.kind,
        alpha=config.distil.alpha,
        tau=config.distil.tau,
        teacher=TEACHER if teacher is not None else None,
        teacher_weights=teacher.state_dict() if teacher is not None else None,
    )
    theirs = plain_loop.run(plain, batches)
    assert len(losses) == STEPS
    assert np.ptp(losses) > 0.01
    np.testing.assert_allclose(losses, theirs.losses, rtol=1e-5)
    _compare(trainer.model.state_dict(), theirs.weights)
    _compare(trainer.average.module.state_dict() if trainer.average is not None else {}, theirs.ema)


def _compare(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-3, atol=2e-5, msg=name)
