"""Fine-tuning, transfer and distillation as whole runs of seconds, against timm's models and the paper's formulas by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch.nn import functional as F

from deit_fast import __main__ as command_line
from deit_fast.config import RunConfig, SourceConfig, WriteConfig
from deit_fast.data.convert.write import write_beton
from deit_fast.data.load.loader import train_loader
from deit_fast.plan.training import train
from deit_fast.record.log import read_events
from deit_fast.train.checkpoint import load_checkpoint
from tests.tiny_runs import TINY, MakeRun, events_of, tiny_config

Finished = tuple[RunConfig, dict[str, Any]]
DISTILLED = "deit_tiny_distilled_patch16_224"
SLIM = {"channels": [16, 24, 32, 40]}  # of a ResNet's four stages
ONE_EPOCH = {"train.epochs": 1, "schedule.warmup_epochs": 0.0, "train.ema_decay": None}
# a rate that no float32 weight feels: a run that ends with the weights that it began with
STILL = {**ONE_EPOCH, "optim.lr": 1e-30, "schedule.min_lr": 0.0, "schedule.warmup_lr": 0.0, "data.subset": 64}


def _remarks(config: RunConfig) -> list[str]:
    return [event["message"] for event in events_of(Path(config.run.dir), "weights")]


def _first_loss(config: RunConfig) -> float:
    """The loss of the first step, which the first weights gave."""
    return float(next(event["loss"] for event in read_events(Path(config.run.dir) / "log.jsonl") if event["event"] == "step"))


def _weights(config: RunConfig, key: str = "state_dict") -> dict[str, torch.Tensor]:
    return dict(load_checkpoint(Path(config.run.dir) / "checkpoints" / "last.pt")[key])


def _start(finished_run: Finished) -> dict[str, Any]:
    path = Path(finished_run[0].run.dir) / "checkpoints" / "last.pt"
    return {"model.weights": str(path), "model.weights_from": "model"}


def test_start_at_a_higher_resolution(tiny_run: MakeRun, finished_run: Finished) -> None:
    config = tiny_run(**STILL, **_start(finished_run), **{"data.resolution": 48})
    train(config, [])
    assert _remarks(config) == ["positions 4x4 -> 6x6"]
    before, after = _weights(finished_run[0]), _weights(config)
    grid = before["pos_embed"][:, 1:].reshape(1, 4, 4, -1).permute(0, 3, 1, 2)
    # DeiT's code (main.py): bicubic, corners not aligned
    larger = F.interpolate(grid, size=(6, 6), mode="bicubic", align_corners=False).permute(0, 2, 3, 1).flatten(1, 2)
    torch.testing.assert_close(after["pos_embed"], torch.cat([before["pos_embed"][:, :1], larger], dim=1))
    assert all(torch.equal(after[name], before[name]) for name in before if name != "pos_embed")


def test_transfer_to_other_classes(tiny_run: MakeRun, finished_run: Finished, digits: Path, tmp_path: Path) -> None:
    betons = {}
    for split in ("train", "val"):
        (tmp_path / split).mkdir()
        for label in "01234":
            (tmp_path / split / label).symlink_to(digits / split / label)
        betons[f"data.{split}"] = str(tmp_path / f"{split}.beton")
        write_beton(SourceConfig(path=str(tmp_path / split)), WriteConfig(out=betons[f"data.{split}"], num_workers=1))
    config = tiny_run(**STILL, **_start(finished_run), **betons)
    train(config, [])
    assert _remarks(config) == ["new head for 5 classes"]
    before, after = _weights(finished_run[0]), _weights(config)
    changed = {name for name in before if before[name].shape != after[name].shape or not torch.equal(before[name], after[name])}
    assert changed == {"head.weight", "head.bias"}
    assert after["head.weight"].shape == (5, 24)
    num_images = sum(1 for label in "01234" for _ in (digits / "val" / label).iterdir())
    evaluations = events_of(Path(config.run.dir), "eval")
    assert [event["num_images"] for event in evaluations] == [num_images]
    assert load_checkpoint(Path(config.run.dir) / "checkpoints" / "last.pt")["classes"] == list("01234")


def test_evaluation_mode_draws_no_stochastic_depth(digits: Path, finished_run: Finished, tmp_path: Path) -> None:
    digests = {}
    for mode in ("eval", "train"):
        for drop_path in (0.0, 0.5):
            changes = {"train.mode": mode, "model.drop_path": drop_path, "data.subset": 64}
            config = tiny_config(digits, tmp_path / f"{mode}-{drop_path}", **ONE_EPOCH, **_start(finished_run), **changes)
            digests[mode, drop_path] = train(config, [])["weights_sha256"]
    assert digests["eval", 0.5] == digests["eval", 0.0] == digests["train", 0.0]
    assert digests["train", 0.5] != digests["train", 0.0]


def test_trunk_stays_where_the_head_trains(tiny_run: MakeRun, finished_run: Finished) -> None:
    config = tiny_run(**ONE_EPOCH, **_start(finished_run), **{"model.trains": "head", "optim.weight_decay": 0.1})
    train(config, [])
    before, after = _weights(finished_run[0]), _weights(config)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"head.weight", "head.bias"}


# distillation


def _val_images(digits: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Validation digits (359, 3, 32, 32) as Pillow decodes them, 0 to 1, and their labels."""
    paths = sorted((digits / "val").glob("*/*.jpg"))
    pixels = torch.from_numpy(np.stack([np.asarray(Image.open(path)) for path in paths]))
    return pixels.permute(0, 3, 1, 2) / 255, torch.tensor([int(path.parent.name) for path in paths])


@pytest.fixture(scope="module")
def teacher(digits: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Options that name a slim ResNet with random weights, in a file as timm writes one."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("teacher") / "teacher.pth"
    model = timm.create_model("resnet18", num_classes=10, **SLIM).eval()
    with torch.no_grad():  # about 0 on average, so that it does not decide alike on all images
        model.fc.weight.mul_(50)
        model.fc.bias.sub_(model(4 * _val_images(digits)[0] - 2).mean(0))
    torch.save({"state_dict": model.state_dict()}, path)
    return {"distil.teacher": "resnet18", "distil.teacher_options": SLIM, "distil.teacher_weights": str(path)}


def _by_hand(config: RunConfig, kind: str) -> float:
    """The loss of the first batch from the weights that a still run ended with, by the paper's formulas on timm's models."""
    torch.manual_seed(0)
    options = config.distil.teacher_options
    teacher = timm.create_model("resnet18", num_classes=10, checkpoint_path=config.distil.teacher_weights, **options).eval()
    student = timm.create_model(config.model.name, num_classes=10, img_size=32, **TINY)
    student.load_state_dict(_weights(config))
    loader = train_loader(config.data, config.augment, seed=0, rank=0, world_size=1, device=torch.device("cpu"))
    loader.set_epoch(0)
    batch = next(iter(loader))
    images, targets = batch.images.clone(), batch.targets.clone()
    loader.close()
    with torch.no_grad():
        theirs = teacher(images)
        if hasattr(student, "set_distilled_training"):
            student.set_distilled_training(True)
            logits, token_logits = student.train()(images)
        else:
            logits = token_logits = student.eval()(images)
        base = -(targets * logits.log_softmax(1)).sum(1).mean()
        if kind == "hard":
            distillation = -token_logits.log_softmax(1)[range(64), theirs.argmax(1)].mean()
        else:
            p, q = (theirs / 3).softmax(1), (token_logits / 3).softmax(1)
            distillation = 9 * (p * (p.log() - q.log())).sum() / 64
        assert len(theirs.argmax(1).unique()) > 2
    return float(0.7 * base + 0.3 * distillation)


@pytest.mark.parametrize("kind", ["hard", "soft"])
@pytest.mark.parametrize("name", ["deit_tiny_patch16_224", DISTILLED], ids=["usual", "token"])
def test_loss_with_a_teacher(digits: Path, tmp_path: Path, teacher: dict[str, Any], name: str, kind: str) -> None:
    changes = {"model.name": name, "model.drop_path": 0.0, "train.log_every": 1}
    how = {"distil.kind": kind, "distil.alpha": 0.3, "distil.tau": 3.0, "distil.soft_scale": "paper"}
    torch.manual_seed(1)
    student = timm.create_model(name, num_classes=10, img_size=32, **TINY)
    for parameter in student.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # fresh heads of timm's would give the same loss to any label
    torch.save(student.state_dict(), tmp_path / "student.pth")
    changes |= {"model.weights": str(tmp_path / "student.pth")}
    config = tiny_config(digits, tmp_path / "run", **STILL, **changes, **how, **teacher)
    train(config, [])
    assert _first_loss(config) == pytest.approx(_by_hand(config, kind), rel=1e-4)
    recorded = json.loads((tmp_path / "run" / "run.json").read_text())["config"]["distil"]
    assert {f"distil.{option}": recorded[option] for option in ("teacher", "teacher_options", "teacher_weights")} == teacher
    assert not any("teacher" in weight for weight in _weights(config))

    without = tiny_config(digits, tmp_path / "without", **STILL, **changes)
    train(without, [])
    assert abs(_first_loss(without) - _first_loss(config)) > 0.01


def test_fine_tuning_with_a_teacher_of_another_resolution(tiny_run: MakeRun, finished_run: Finished) -> None:
    weights = _start(finished_run)["model.weights"]
    options = {"distil.kind": "hard", "distil.teacher": "deit_tiny_patch16_224", "distil.teacher_options": TINY}
    student = {"model.name": DISTILLED, "data.resolution": 48, **_start(finished_run)}
    config = tiny_run(**STILL, **student, **options, **{"distil.teacher_weights": weights})
    train(config, [])
    assert _remarks(config) == [
        "positions 4x4 -> 6x6", "new distillation token and head", "teacher: positions 4x4 -> 6x6"
    ]  # fmt: skip


@pytest.mark.slow
def test_each_head_of_a_distilled_checkpoint(tiny_run: MakeRun, teacher: dict[str, Any], digits: Path, tmp_path: Path) -> None:
    """`eval` by class head, distillation head and both, against timm's model on Pillow's images."""
    changes = {"model.name": DISTILLED, "distil.kind": "hard", "optim.lr": 2e-2, "data.eval_crop_ratio": 1.0}
    config = tiny_run(**ONE_EPOCH, **changes, **teacher)
    train(config, [])
    model = timm.create_model(DISTILLED, num_classes=10, img_size=32, **TINY).eval()
    model.load_state_dict(_weights(config))
    images, labels = _val_images(digits)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.augment.mean, config.augment.std))
    with torch.no_grad():
        tokens = model.forward_features((images - mean) / std)
        ours, teachers = model.head(tokens[:, 0]), model.head_dist(tokens[:, 1])
    wanted = {
        ("class", "code"): ours,
        ("distillation", "code"): teachers,
        ("both", "code"): (ours + teachers) / 2,
        ("both", "paper"): ((ours.softmax(1) + teachers.softmax(1)) / 2).log(),
    }
    losses = sorted(F.cross_entropy(logits, labels).item() for logits in wanted.values())
    assert min(np.diff(losses)) > 1e-3, losses
    for (heads, fusion), logits in wanted.items():
        out = tmp_path / "eval.json"
        words = [f"--eval.checkpoint={config.run.dir}/checkpoints/last.pt", f"--data.val={digits / 'val.beton'}"]
        words += [f"--eval.heads={heads}", f"--eval.fusion={fusion}", "--train.device=cpu", f"--out={out}"]
        assert command_line.main(["eval", *words]) == 0
        result = json.loads(out.read_text())
        assert result["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=2e-5)
        assert result["top1"] == pytest.approx(100 * (logits.argmax(1) == labels).float().mean().item(), abs=0.3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "distil.teacher_weights is not set"),
        (["--distil.teacher_weights=nowhere.pt"], "weights nowhere.pt: no such file"),
    ],
)
def test_missing_teacher_is_one_line_before_any_folder(
    digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    """As a user sees it."""
    words = [*words, f"--data.train={digits / 'train.beton'}", f"--data.val={digits / 'val.beton'}", "--distil.kind=hard"]
    words += [f"--run.dir={tmp_path / 'run'}", "--data.resolution=32", "--data.num_workers=1", "--train.device=cpu"]
    words += ["--model.name=deit_tiny_patch16_224", "--model.options=patch_size=8,embed_dim=24,depth=2,num_heads=2"]
    assert command_line.main(["train", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"deit-fast train: {message}")
    assert not (tmp_path / "run").exists()
