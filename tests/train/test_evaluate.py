"""`deit-fast eval` on files of our own and of other code: which model, which view, which heads, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.data import create_transform

from deit_fast.config import RunConfig, SourceConfig, UserError, WriteConfig
from deit_fast.data.convert.write import write_beton
from deit_fast.train.checkpoint import load_checkpoint, save_checkpoint
from deit_fast.train.evaluate import evaluate_checkpoint
from tests.tiny_runs import TINY
from tests.train.learners import small_learner

Finished = tuple[RunConfig, dict[str, Any]]
DISTILLED = "deit_tiny_distilled_patch16_224"


def _config(digits: Path, checkpoint: Path, **changes: Any) -> RunConfig:
    config = RunConfig()
    options = {"data.val": str(digits / "val.beton"), "data.num_workers": 1, "eval.checkpoint": str(checkpoint), **changes}
    for key, value in options.items():
        section, name = key.split(".")
        config = dataclasses.replace(config, **{section: dataclasses.replace(getattr(config, section), **{name: value})})
    return config


def _logits(model: torch.nn.Module, digits: Path, side: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of all validation images through timm's own transform, and the labels."""
    paths = sorted((digits / "val").glob("*/*.jpg"))
    transform = create_transform(side, interpolation="bicubic", crop_pct=1.0)
    images = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
    labels = torch.tensor([int(path.parent.name) for path in paths])
    with torch.inference_mode():
        return model.eval()(images), labels


def _top1(logits: torch.Tensor, labels: torch.Tensor) -> float:
    return 100 * (logits.argmax(1) == labels).double().mean().item()


@pytest.fixture(scope="module")
def students(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    """A distilled model whose heads disagree, as DeiT's code saves it, and the model."""
    torch.manual_seed(0)
    model = timm.create_model(DISTILLED, num_classes=10, img_size=32, **TINY)
    torch.nn.init.normal_(model.head.weight)
    torch.nn.init.normal_(model.head_dist.weight)
    path = tmp_path_factory.mktemp("students") / "deit.pth"
    torch.save({"model": model.state_dict(), "epoch": 299}, path)
    return path, model


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, lambda a, b: (a + b) / 2),
        ({"eval.heads": "class"}, lambda a, b: a),
        ({"eval.heads": "distillation"}, lambda a, b: b),
        ({"eval.fusion": "paper"}, lambda a, b: torch.log((a.softmax(1) + b.softmax(1)) / 2)),
    ],
)
def test_each_head_of_a_file_of_deits_code(
    digits: Path, students: tuple[Path, torch.nn.Module], changes: dict[str, Any], expected: Any
) -> None:
    path, model = students
    config = _config(
        digits, path, **{"model.name": DISTILLED, "model.options": TINY, "data.eval_resolution": 32},
        **{"data.eval_crop_ratio": 1.0}, **changes,
    )  # fmt: skip
    result = evaluate_checkpoint(config)
    model.set_distilled_training(True)  # type: ignore[operator]
    features, labels = _logits(_Both(model), digits, 32)
    logits = expected(*features)
    assert result["top1"] == pytest.approx(_top1(logits, labels), abs=0.3)  # a near tie may fall the other way
    assert result["loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-4)
    assert result["num_images"] == 359


class _Both(torch.nn.Module):
    """timm's own two heads, which it gives in training mode alone."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> Any:
        self.model.train()
        return self.model(images)


def test_shards_give_what_their_beton_gives(
    digits: Path, finished_run: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(finished_run[0].run.dir) / "checkpoints" / "last.pt"
    write_beton(SourceConfig(path=str(digits / "val")), WriteConfig(out=str(tmp_path / "val"), num_workers=1, shards=3))
    whole = evaluate_checkpoint(_config(digits, path))
    capsys.readouterr()
    found = evaluate_checkpoint(_config(digits, path, **{"data.val": f"{tmp_path}/val-*.beton"}))
    assert {name: found[name] for name in found if name != "val"} == {name: whole[name] for name in whole if name != "val"}
    assert "warning" not in capsys.readouterr().err
    some = evaluate_checkpoint(_config(digits, path, **{"data.val": f"{tmp_path}/val-0000[02]*.beton"}))
    assert some["num_images"] < found["num_images"]
    assert "has 2 of the 3 shards of a conversion" in capsys.readouterr().err


def test_a_vision_transformer_at_another_resolution(
    digits: Path, finished_run: Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(finished_run[0].run.dir) / "checkpoints" / "last.pt"
    result = evaluate_checkpoint(_config(digits, path, **{"data.eval_resolution": 48, "data.eval_crop_ratio": 1.0}))
    content = load_checkpoint(path)
    model = timm.create_model("deit_tiny_patch16_224", num_classes=10, img_size=48, **TINY)
    weights = dict(content[{"model": "state_dict", "ema": "state_dict_ema"}[content["best_weights"]]])
    grid = weights["pos_embed"][:, 1:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
    grid = torch.nn.functional.interpolate(grid, size=(6, 6), mode="bicubic", align_corners=False)
    weights["pos_embed"] = torch.cat([weights["pos_embed"][:, :1], grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
    model.load_state_dict(weights)
    logits, labels = _logits(model, digits, 48)
    assert result["loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-4)
    assert "positions 4x4 -> 6x6" in capsys.readouterr().out


def test_the_kernel_of_attention_is_as_asked_for(digits: Path, finished_run: Finished) -> None:
    path = Path(finished_run[0].run.dir) / "checkpoints" / "last.pt"
    plain, math = (evaluate_checkpoint(_config(digits, path, **{"train.attention": kernel})) for kernel in ("auto", "math"))
    assert math["loss"] == pytest.approx(plain["loss"], rel=1e-5)
    with pytest.raises(UserError, match=r"train\.attention=cudnn: checkpoint .*last\.pt cannot use it here"):
        evaluate_checkpoint(_config(digits, path, **{"train.attention": "cudnn"}))


def test_the_view_of_other_weights_is_what_timm_states(digits: Path, tmp_path: Path) -> None:
    model = timm.create_model("resnet10t", num_classes=10)
    torch.save(model.state_dict(), tmp_path / "resnet.pth")
    few = tmp_path / "few.beton"
    write_beton(SourceConfig(path=str(digits / "val"), subset=20), WriteConfig(out=str(few), num_workers=1))
    result = evaluate_checkpoint(_config(digits, tmp_path / "resnet.pth", **{"model.name": "resnet10t", "data.val": str(few)}))
    stated = timm.get_pretrained_cfg("resnet10t")
    assert (result["eval_resolution"], result["eval_crop_ratio"]) == (stated.input_size[-1], stated.crop_pct)
    assert np.isfinite(result["loss"])


def test_weights_of_a_checkpoint_as_safetensors(digits: Path, tmp_path: Path, finished_run: Finished) -> None:
    best = Path(finished_run[0].run.dir) / "checkpoints" / "best.pt"
    content = load_checkpoint(best)
    tensors = [value for state in content["optimizer"]["state"].values() for value in state.values()]
    assert all(tensor.is_contiguous() for tensor in (*tensors, *content["model_ema"].values()))
    path = tmp_path / "weights.safetensors"
    save_file(content["model"], path)

    named = {"model.name": "deit_tiny_patch16_224", "model.options": TINY}
    view = {"data.eval_resolution": 32, "data.eval_crop_ratio": 0.875}
    result = evaluate_checkpoint(_config(digits, path, **named, **view))
    expected = evaluate_checkpoint(_config(digits, best, **{"eval.weights": "model"}))
    assert (result["top1"], result["loss"]) == (expected["top1"], expected["loss"])

    roles = {
        "model.weights": str(path), "distil.kind": "soft", "distil.teacher": named["model.name"],
        "distil.teacher_options": TINY, "distil.teacher_weights": str(path),
    }  # fmt: skip
    learner = small_learner({**named, **roles})
    assert learner.teacher is not None
    for model in (learner.model, learner.teacher.model):
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, content["model"][name])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["levit_128s", "repvit_m1", "volo_d1_224", "densenet121"])
def test_heads_in_other_places(digits: Path, tmp_path: Path, name: str) -> None:
    """Two heads behind normalisation, two in a module, one beside that of patches; and an architecture without drop_path."""
    torch.manual_seed(0)
    sized = {"img_size": 32} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    model = timm.create_model(name, num_classes=10, **sized)
    for parameter in model.parameters():
        if len(parameter) == 10:
            torch.nn.init.normal_(parameter)
    for module in model.modules():
        if hasattr(module, "running_var"):
            module.momentum = 1.0
    with torch.no_grad():  # statistics of what is normalised, without which logits would be all alike
        model.train()(torch.randn(32, 3, 32, 32))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    view = {"data.eval_resolution": 32, "data.eval_crop_ratio": 1.0}
    result = evaluate_checkpoint(_config(digits, tmp_path / "model.safetensors", **{"model.name": name, **view}))
    logits, labels = _logits(model, digits, 32)
    assert result["loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, labels).item(), rel=1e-3)
    assert result["loss"] > 2.4
    assert logits.std(0).min() > 0.05


def test_what_is_refused(digits: Path, tmp_path: Path, finished_run: Finished, students: tuple[Path, torch.nn.Module]) -> None:
    ours = Path(finished_run[0].run.dir) / "checkpoints" / "last.pt"
    with pytest.raises(UserError, match=r"model\.name=resnet18: checkpoint .* holds deit_tiny_patch16_224; leave"):
        evaluate_checkpoint(_config(digits, ours, **{"model.name": "resnet18"}))
    with pytest.raises(UserError, match=r"eval\.heads=class: the model has one head"):
        evaluate_checkpoint(_config(digits, ours, **{"eval.heads": "class"}))
    with pytest.raises(UserError, match="hold no moving average"):
        evaluate_checkpoint(_config(digits, students[0], **{"model.name": DISTILLED, "eval.weights": "ema"}))
    content = load_checkpoint(ours)
    save_checkpoint(tmp_path / "five.pt", {**content, "classes": list("01234"), "num_classes": 5})
    with pytest.raises(UserError, match=r"has 10 classes and checkpoint .* has 5; class 5 of the former, '5', is not there"):
        evaluate_checkpoint(_config(digits, tmp_path / "five.pt"))
