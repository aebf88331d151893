"""The same learning: a script around timm and PyTorch and our trainer, on the same batches from the same weights."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.optim import param_groups_weight_decay
from timm.scheduler import CosineLRScheduler

from deit_fast.benchmarks import plain_loop
from deit_fast.benchmarks.plain_loop import PlainLoop, Recipe
from deit_fast.config import RunConfig
from deit_fast.train.dist import World
from deit_fast.train.trainer import Trainer
from tests.test_rooms import imported
from tests.tiny_runs import TINY, MakeRun

Batch = tuple[torch.Tensor, torch.Tensor]  # images, soft targets
Weights = dict[str, torch.Tensor]

EPOCHS = 4
STEPS = 25  # of 10 in an epoch
NARROW = {"channels": (8, 16, 32, 64)}
TEACHER: dict[str, Any] = {"model_name": "resnet10t", "num_classes": 10, **NARROW}

# our options, and what they are in the plain loop
RUNS: dict[str, tuple[dict[str, Any], Recipe]] = {
    "plain": ({}, Recipe()),
    "ema": ({"train.ema_decay": 0.98}, Recipe(ema_decay=0.98)),
    "accumulated": ({"train.accumulate": 3}, Recipe(accumulate=3)),  # pieces of 6, 6 and 4
    "hard": ({"distil.kind": "hard"}, Recipe(kind="hard")),
    "soft, without a token": (
        {"distil.kind": "soft", "distil.tau": 3.0, "distil.alpha": 0.1},
        Recipe(kind="soft", tau=3.0, alpha=0.1),
    ),
    "cosub": ({"distil.kind": "cosub"}, Recipe(kind="cosub")),
    "cosub, bce": (
        {"distil.kind": "cosub", "distil.alpha": 0.3, "train.loss": "bce", "augment.label_smoothing": 0.0},
        Recipe(kind="cosub", alpha=0.3, loss="bce", bce_threshold=0.0),
    ),
    "all of it": (
        {"distil.kind": "soft", "train.ema_decay": 0.98, "train.accumulate": 2},
        Recipe(kind="soft", ema_decay=0.98, accumulate=2),
    ),
}


def _ours(config: RunConfig) -> tuple[list[float], Trainer, list[Batch], Weights]:
    """Losses of so many steps, the trainer then, the batches, and the first weights."""
    trainer = Trainer(config, World(0, 1, torch.device("cpu")))
    first = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    losses: list[float] = []
    batches: list[Batch] = []
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


def _script(
    student: dict[str, Any], first: Weights, batches: Sequence[Batch], teacher: torch.nn.Module | None, recipe: Recipe
) -> tuple[list[float], Weights, Weights]:
    """What DeiT's main.py does with timm's model, groups and schedule: losses, last weights, their average if there is one."""
    model = timm.create_model(**student)
    model.load_state_dict(first)
    model.train()
    if teacher is not None and hasattr(model, "set_distilled_training"):
        model.set_distilled_training(True)
    # DeiT's code decays the distillation token, which timm's models exempt by now
    groups = param_groups_weight_decay(model, 0.05, no_weight_decay_list=("pos_embed", "cls_token"))
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    scheduler = CosineLRScheduler(optimizer, t_initial=EPOCHS, lr_min=1e-5, warmup_t=1, warmup_lr_init=1e-6)
    loop = PlainLoop(model, optimizer, recipe, teacher=None if teacher is None else teacher.eval())
    losses = []
    for number, (images, targets) in enumerate(batches):
        losses.append(sum(piece.item() for piece in loop.step(images, targets)))
        epoch, step = divmod(number, 10)
        if step == 9:
            scheduler.step(epoch)  # at the end of an epoch, with its own number: DeiT's main.py
    return losses, model.state_dict(), {} if loop.average is None else loop.average.module.state_dict()


@pytest.mark.parametrize("name", RUNS)
def test_the_same_losses_as_a_plain_loop(name: str, tiny_run: MakeRun, tmp_path: Path) -> None:
    changes, recipe = RUNS[name]
    has_teacher = recipe.kind in ("hard", "soft")
    has_token = has_teacher and "without" not in name
    architecture = f"deit_tiny{'_distilled' if has_token else ''}_patch16_224"
    teacher = None
    if has_teacher:
        teacher = timm.create_model(**TEACHER)
        for module in teacher.modules():  # fresh batch statistics would let it say the same of all images
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.constant_(module.running_var, 0.05)  # type: ignore[arg-type]
        torch.save(teacher.state_dict(), tmp_path / "teacher.pth")
        changes = changes | {"distil.teacher": "resnet10t", "distil.teacher_options": NARROW}
        changes = changes | {"distil.teacher_weights": str(tmp_path / "teacher.pth")}
    config = tiny_run(
        **{
            "model.name": architecture, "model.drop_path": 0.0, "train.epochs": EPOCHS, "train.ema_decay": None,
            "schedule.update": "code", "schedule.warmup_epochs": 1, "train.channels_last": False,
            "optim.lr": 1e-3, "optim.lr_batch_size": None, "data.batch_size": 16, "data.subset": 160, **changes,
        }
    )  # fmt: skip
    losses, trainer, batches, first = _ours(config)
    assert trainer.steps_per_epoch == 10
    student = {"model_name": architecture, "num_classes": 10, "img_size": 32, **TINY}
    their_losses, their_weights, their_average = _script(student, first, batches, teacher, recipe)
    assert len(losses) == STEPS
    assert np.ptp(losses) > 0.01
    np.testing.assert_allclose(losses, their_losses, rtol=1e-5)
    _compare(trainer.model.state_dict(), their_weights)
    _compare(trainer.average.module.state_dict() if trainer.average is not None else {}, their_average)


def _compare(ours: Weights, theirs: Weights) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        torch.testing.assert_close(ours[name], tensor, rtol=1e-3, atol=2e-5, msg=name)


def test_nothing_of_deit_fast_is_in_the_plain_loop() -> None:
    """Else it would agree with our trainer also where that is wrong."""
    file = Path(plain_loop.__file__)
    names = [name for _, name in imported(file.read_text(encoding="utf-8"), "deit_fast/benchmarks/plain_loop.py")]
    assert "torch" in names
    assert not any(name.startswith("deit_fast") for name in names)
