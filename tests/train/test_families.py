"""A model of each of timm's families: its weights for other classes, a step of training with a new head, an evaluation."""

import math
from pathlib import Path

import pytest
import timm
import torch

from deit_fast.model.weights import num_classes_of
from deit_fast.train.evaluate import Decision
from tests.train.families import ENCODERS, FAMILIES
from tests.train.learners import random_batch, small_learner

# Where fewer leave batch normalisation few values of a channel, it gives rounding errors: with 2 images of 32 pixels gradients
# of a DenseNet reached 1e6, and its logits were NaN on one machine and not on another
NUM_IMAGES = 8


def test_all_families_are_here() -> None:
    assert set(FAMILIES) == set(timm.list_modules())
    assert all(family.name in timm.list_models(module=module) for module, family in FAMILIES.items())


def test_encoders_are_all_that_has_no_classifier() -> None:
    assert {name for name in timm.list_models() if name.endswith("_enc")} == ENCODERS


@pytest.mark.slow
@pytest.mark.parametrize("module", FAMILIES)
def test_a_new_head_learns(module: str, tmp_path: Path) -> None:
    family = FAMILIES[module]
    side, options = family.side, family.options
    torch.manual_seed(0)
    sized = {"img_size": side} if timm.get_pretrained_cfg(family.name).fixed_input_size else {}
    weights = timm.create_model(family.name, num_classes=7, **sized, **options).state_dict()
    torch.save(weights, tmp_path / "seven.pth")
    changes = {
        "model.name": family.name, "model.options": options, "model.weights": str(tmp_path / "seven.pth"),
        "data.resolution": side, "data.batch_size": NUM_IMAGES,
        "optim.name": "sgd", "optim.momentum": 0.0, "optim.lr": 1e-5,
    }  # fmt: skip
    learner = small_learner(changes)
    (tmp_path / "seven.pth").unlink()  # 98 of them would fill a disk

    # everything but the layers that timm says are the classifier is what the file held
    classifier = timm.get_pretrained_cfg(family.name).classifier
    layers = (classifier,) if isinstance(classifier, str) else classifier
    state = learner.model.state_dict()
    heads = {name: value.clone() for name, value in state.items() if name.rpartition(".")[0] in layers}
    assert heads
    assert all(len(value) == 10 for value in heads.values())
    assert weights.keys() == state.keys()
    assert all(torch.equal(value, weights[name]) for name, value in state.items() if name not in heads)
    orders = (layers, layers[::-1])  # VOLO's auxiliary head is the first
    assert learner.remarks in [[f"new {' and '.join(order)} for 10 classes"] for order in orders]
    assert num_classes_of(learner.model, weights, path="seven.pth") == 7

    batch = random_batch(size=NUM_IMAGES, side=side)
    learner.train_on(batch, 0, 0)
    assert math.isfinite(learner.step.read().loss)
    assert not torch.equal(learner.model.state_dict()[next(iter(heads))], next(iter(heads.values())))
    learner.model.eval()
    with torch.inference_mode():
        logits = Decision(learner.model, learner.config.eval)(batch.images)
    assert logits.shape == (NUM_IMAGES, 10)
    assert logits.isfinite().all()
