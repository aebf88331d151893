"""Teachers: the logits of timm's own model on images as it knows them, from weights in any form; frozen, and never in the
student."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from deit_fast.config import DistilConfig, ModelConfig, UserError
from deit_fast.model.create import create_model
from deit_fast.model.positions import interpolate_positions
from deit_fast.train.checkpoint import save_checkpoint
from deit_fast.train.teacher import Teacher, create_teacher
from tests.tiny_runs import TINY

SLIM = {"channels": [16, 24, 32, 40]}  # of a ResNet's four stages
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _network(name: str = "resnet18", *, num_classes: int = 5, resolution: int = 32, **changes: Any) -> nn.Module:
    torch.manual_seed(0)
    config = ModelConfig(name=name, drop_path=0.0, **{"options": SLIM, **changes})
    model = create_model(config, num_classes=num_classes, resolution=resolution)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.add_(0.05 * torch.rand(value.shape))
    return model.eval()


def _ours(path: Path, model: nn.Module, architecture: dict[str, Any], mean: Any = MEAN, std: Any = STD) -> None:
    weights = model.state_dict()
    content = {
        "architecture": {"options": SLIM, "blurpool": False, **architecture},
        "num_classes": 5,
        "view": {"mean": list(mean), "std": list(std)},
        "state_dict": weights,
        "model": weights,
        "best_weights": "model",
    }
    save_checkpoint(path, content)


def _teacher(path: Path | str, *, num_classes: int = 5, compile_mode: str = "off", **changes: Any) -> Teacher:
    changes = {"resolution": 32, "mean": MEAN, "std": STD, "channels_last": True, **changes}
    arguments = {name: changes.pop(name) for name in ("resolution", "mean", "std", "channels_last")}
    config = DistilConfig(kind="hard", teacher_weights=str(path), **{"teacher": "resnet18", "teacher_options": SLIM, **changes})
    return create_teacher(config, num_classes=num_classes, device=torch.device("cpu"), compile_mode=compile_mode, **arguments)


def _images(resolution: int = 32) -> torch.Tensor:
    images = torch.randn(4, 3, resolution, resolution, generator=torch.Generator().manual_seed(1))
    return images.to(memory_format=torch.channels_last)


def test_logits_of_the_network(tmp_path: Path) -> None:
    network = _network()
    torch.save({"model": network.state_dict()}, tmp_path / "teacher.pth")
    teacher = _teacher(tmp_path / "teacher.pth")
    logits = teacher(_images())
    torch.testing.assert_close(logits, network(_images()).detach())
    assert not logits.requires_grad
    assert teacher.adapted == []
    assert teacher.model.conv1.weight.is_contiguous(memory_format=torch.channels_last)  # type: ignore[union-attr,operator]


@pytest.mark.parametrize("name", ["levit_128s", "repvit_m1", "efficientvim_m1"])
def test_teachers_with_heads_in_other_places(tmp_path: Path, name: str) -> None:
    network = _network(name, options={})
    torch.save(network.state_dict(), tmp_path / "teacher.pth")
    teacher = _teacher(tmp_path / "teacher.pth", teacher=name, teacher_options={})
    logits = network(_images()).detach()
    torch.testing.assert_close(teacher(_images()), logits, atol=1e-4 * float(logits.abs().max()), rtol=0)
    assert logits.std(0).max() > 1e-3 * logits.abs().max()  # images tell
    with pytest.raises(UserError, match=r"teacher\.pth: a teacher of 5 classes, the data have 6"):
        _teacher(tmp_path / "teacher.pth", teacher=name, teacher_options={}, num_classes=6)


def test_images_in_the_teachers_own_normalisation(tmp_path: Path) -> None:
    """timm's vit_base_patch16_224 was trained with mean and deviation 0.5; a checkpoint of ours says what it was."""
    pixels = torch.rand(4, 3, 32, 32)
    mean, std, half = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD, (0.5, 0.5, 0.5)))
    images = ((pixels - mean) / std).to(memory_format=torch.channels_last)
    vit = _network("vit_base_patch16_224", options=TINY)
    torch.save(vit.state_dict(), tmp_path / "vit.pth")
    assert timm.get_pretrained_cfg("vit_base_patch16_224").mean == (0.5, 0.5, 0.5)
    logits = _teacher(tmp_path / "vit.pth", teacher="vit_base_patch16_224", teacher_options=TINY)(images)
    torch.testing.assert_close(logits, vit((pixels - half) / half).detach(), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(logits, vit(images), atol=1e-2)

    resnet = _network()
    _ours(tmp_path / "ours.pt", resnet, {"name": "resnet18"}, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    logits = _teacher(tmp_path / "ours.pt")(images)
    torch.testing.assert_close(logits, resnet((pixels - half) / half).detach(), atol=1e-4, rtol=1e-4)


def test_converted_images_stay_channels_last(tmp_path: Path) -> None:
    torch.save(_network().state_dict(), tmp_path / "teacher.pth")
    teacher = _teacher(tmp_path / "teacher.pth", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    layouts = []
    teacher.model.register_forward_pre_hook(
        lambda _, inputs: layouts.append((inputs[0].dtype, inputs[0].is_contiguous(memory_format=torch.channels_last)))
    )
    teacher(_images())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert teacher(_images().bfloat16()).dtype == torch.bfloat16
    assert layouts == [(torch.float32, True)] * 2


def test_transformer_at_the_runs_resolution(tmp_path: Path) -> None:
    network = _network("deit_tiny_distilled_patch16_224", options=TINY)
    torch.save({"state_dict": network.state_dict()}, tmp_path / "teacher.pth")
    options: dict[str, Any] = {"teacher": "deit_tiny_distilled_patch16_224", "teacher_options": TINY}
    assert torch.equal(_teacher(tmp_path / "teacher.pth", **options)(_images()), network(_images()))
    teacher = _teacher(tmp_path / "teacher.pth", resolution=48, **options)
    assert teacher.adapted == ["positions 4x4 -> 6x6"]
    wanted = interpolate_positions(network.state_dict()["pos_embed"], 2, (4, 4), (6, 6))
    assert torch.equal(teacher.model.state_dict()["pos_embed"], wanted)
    assert teacher(_images(48)).shape == (4, 5)


def test_frozen_outside_the_student_in_evaluation_mode(tmp_path: Path) -> None:
    torch.save(_network().state_dict(), tmp_path / "teacher.pth")
    teacher = _teacher(tmp_path / "teacher.pth")
    before = {name: value.clone() for name, value in teacher.model.state_dict().items()}
    student = nn.Linear(3 * 32 * 32, 5)
    student.teacher = teacher  # type: ignore[assignment]
    student.train()
    logits = student(_images().flatten(1))
    (logits * teacher(_images())).sum().backward()  # a loss may keep the teacher's logits
    assert list(student.state_dict()) == ["weight", "bias"]
    assert len(list(student.parameters())) == 2
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in teacher.model.state_dict().items())


def test_student_begins_alike_with_and_without_a_teacher(tmp_path: Path) -> None:
    torch.save(_network().state_dict(), tmp_path / "teacher.pth")
    torch.manual_seed(3)
    wanted = torch.rand(4)
    torch.manual_seed(3)
    _teacher(tmp_path / "teacher.pth")
    assert torch.equal(torch.rand(4), wanted)


def test_checkpoint_of_a_blurred_resnet(tmp_path: Path) -> None:
    network = _network(blurpool=True)
    _ours(tmp_path / "ours.pt", network, {"name": "resnet18", "blurpool": True})
    torch.testing.assert_close(_teacher(tmp_path / "ours.pt")(_images()), network(_images()).detach())
    assert not torch.allclose(network(_images()), _loaded(network)(_images()), atol=1e-2)


def _loaded(network: nn.Module) -> nn.Module:
    plain = _network()
    plain.load_state_dict(network.state_dict())
    return plain


def test_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = _network()
    torch.save(network.state_dict(), tmp_path / "teacher.pth")
    modes = []

    def compiled(model: nn.Module, mode: str) -> Callable[[torch.Tensor], torch.Tensor]:
        """As CUDA graphs do, each pass writes its result where the one before lay."""
        modes.append(mode)
        result = torch.empty(4, 5)
        return lambda images: result.copy_(model(images))

    monkeypatch.setattr(torch, "compile", compiled)
    _teacher(tmp_path / "teacher.pth", compile_mode="max-autotune")
    assert modes == []
    teacher = _teacher(tmp_path / "teacher.pth", teacher_compile=True, compile_mode="max-autotune")
    assert modes == ["max-autotune"]
    logits = teacher(_images())
    teacher(-_images())
    torch.testing.assert_close(logits, network(_images()).detach())
    with pytest.raises(UserError, match=r"distil\.teacher_compile=true: train\.compile is off"):
        _teacher(tmp_path / "teacher.pth", teacher_compile=True)


def test_no_weights() -> None:
    with pytest.raises(UserError, match=r"distil\.teacher_weights is not set: want the file of the teacher's weights"):
        _teacher("")


def test_unknown_teacher(tmp_path: Path) -> None:
    torch.save(_network().state_dict(), tmp_path / "teacher.pth")
    with pytest.raises(UserError, match=r"distil\.teacher=regnety_16: timm has no such model"):
        _teacher(tmp_path / "teacher.pth", teacher="regnety_16")


def test_another_number_of_classes(tmp_path: Path) -> None:
    network = _network(num_classes=7)
    torch.save(network.state_dict(), tmp_path / "teacher.pth")
    with pytest.raises(UserError, match=r"teacher\.pth: a teacher of 7 classes, the data have 5; want one of 5"):
        _teacher(tmp_path / "teacher.pth")
    torch.save({name: value for name, value in network.state_dict().items() if "fc" not in name}, tmp_path / "none.pth")
    with pytest.raises(UserError, match=r"none\.pth: a teacher of no classes, the data have 5"):
        _teacher(tmp_path / "none.pth")


def test_checkpoint_of_another_architecture(tmp_path: Path) -> None:
    network = _network("deit_tiny_patch16_224", options=TINY)
    _ours(tmp_path / "ours.pt", network, {"name": "deit_tiny_patch16_224", "options": TINY})
    with pytest.raises(UserError, match=r"^distil\.teacher=resnet18: .*ours\.pt was trained with deit_tiny_patch16_224$"):
        _teacher(tmp_path / "ours.pt")
    with pytest.raises(
        UserError, match=r"^distil\.teacher_options=\{'channels': .*ours\.pt was trained with \{'patch_size': 8,"
    ):
        _teacher(tmp_path / "ours.pt", teacher="deit_tiny_patch16_224")


def test_file_of_another_architecture(tmp_path: Path) -> None:
    torch.save(_network("resnet50").state_dict(), tmp_path / "teacher.pth")
    with pytest.raises(UserError, match=r"weights \S*teacher\.pth: do not fit the model: "):
        _teacher(tmp_path / "teacher.pth")
