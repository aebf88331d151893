"""train.channels_last says how images and weights lie in memory, in all that a network sees."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models.resnet import ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from deit_fast.benchmarks.step import synthetic_batch
from deit_fast.plan.placement import training_rate
from deit_fast.plan.probe import probe
from deit_fast.train.dist import World
from deit_fast.train.evaluate import evaluate_checkpoint
from deit_fast.train.trainer import Trainer
from tests.tiny_runs import MakeRun
from tests.train.learners import CPU

Seen = tuple[str, bool, str, str]  # network, whether it trains, layout of its images and of its first weights


def _layout(tensor: torch.Tensor) -> str:
    layouts = {torch.contiguous_format: "contiguous", torch.channels_last: "channels last"}
    (found,) = [name for layout, name in layouts.items() if tensor.is_contiguous(memory_format=layout)]
    return found


@pytest.fixture
def seen() -> Iterator[set[Seen]]:
    """What each network of timm that runs meanwhile sees."""
    found: set[Seen] = set()

    def see(module: nn.Module, inputs: Any) -> None:
        if isinstance(module, ResNet | VisionTransformer):
            weight = next(value for value in module.state_dict().values() if value.ndim == 4)
            found.add((type(module).__name__, module.training, _layout(inputs[0]), _layout(weight)))

    handle = register_module_forward_pre_hook(see)
    yield found
    handle.remove()


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.slow
def test_networks_see_images_and_weights_in_the_format_that_is_asked_for(
    tiny_run: MakeRun, tmp_path: Path, channels_last: bool, seen: set[Seen], monkeypatch: pytest.MonkeyPatch
) -> None:
    narrow = {"channels": (8, 16, 32, 64)}
    teacher = timm.create_model("resnet10t", num_classes=10, **narrow)
    torch.save(teacher.state_dict(), tmp_path / "teacher.pth")
    config = tiny_run(
        **{
            "train.channels_last": channels_last, "distil.kind": "soft", "distil.teacher": "resnet10t",
            "distil.teacher_options": narrow,
            "distil.teacher_weights": str(tmp_path / "teacher.pth"), "train.ema_decay": None, "data.batch_size": 8,
        }
    )  # fmt: skip
    wanted = 2 * ("channels last" if channels_last else "contiguous",)
    student, trains = "VisionTransformer", True
    both = {(student, trains, *wanted), ("ResNet", False, *wanted)}
    world = World(0, 1, CPU)
    trainer = Trainer(config, world)

    batch = next(iter(trainer.batches(0)))
    trainer.train_on(batch, 0, 0)
    assert seen == both
    seen.clear()
    trainer.evaluate(lambda: True)
    assert seen == {(student, False, *wanted)}
    seen.clear()
    probe(trainer, tmp_path, 0.0)
    assert seen == both | {(student, False, *wanted)}
    seen.clear()
    monkeypatch.setattr("deit_fast.plan.placement._SECONDS", 0.0)
    training_rate(config, world)
    assert seen == both
    assert _layout(synthetic_batch(config, CPU).images) == wanted[0]

    seen.clear()
    torch.save(trainer.model.state_dict(), tmp_path / "student.pth")
    trainer.close()
    evaluated = dataclasses.replace(config.eval, checkpoint=str(tmp_path / "student.pth"))
    data = dataclasses.replace(config.data, eval_resolution=32)
    evaluate_checkpoint(dataclasses.replace(config, eval=evaluated, data=data))
    assert seen == {(student, False, *wanted)}
