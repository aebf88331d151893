"""Training and evaluation where a set has other classes: some of them, which are found by name, or one alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from deit_fast.config import RunConfig, SourceConfig, UserError, WriteConfig
from deit_fast.data.convert.write import write_beton
from deit_fast.data.format.beton import open_beton
from deit_fast.data.load.loader import eval_loader
from deit_fast.plan.training import train
from deit_fast.record.log import read_events
from deit_fast.train.checkpoint import load_checkpoint
from deit_fast.train.evaluate import evaluate_checkpoint
from tests.tiny_runs import TINY, MakeRun
from tests.train.learners import CPU


def _some_digits(folder: Path, images: Path, wanted: Iterable[str]) -> str:
    """A beton of some of the classes in an image folder."""
    (folder / "some").mkdir()
    for name in wanted:
        (folder / "some" / name).symlink_to(images / name)
    out = folder / "some.beton"
    write_beton(SourceConfig(path=str(folder / "some")), WriteConfig(out=str(out), num_workers=1))
    return str(out)


def _evaluated(config: RunConfig, checkpoint: Path, val: str, **changes: Any) -> dict[str, Any]:
    data = dataclasses.replace(config.data, val=val, eval_resolution=32)
    model = dataclasses.replace(config.model, **changes)
    evaluation = dataclasses.replace(config.eval, checkpoint=str(checkpoint))
    return evaluate_checkpoint(dataclasses.replace(config, data=data, model=model, eval=evaluation))


def test_a_validation_set_of_some_classes(
    tiny_run: MakeRun, digits: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("1", "4", "9")
    val = _some_digits(tmp_path, digits / "val", names)
    config = tiny_run(**{"data.val": val, "train.ema_decay": 0.0, "data.subset": 256})
    train(config, [])
    events = read_events(Path(config.run.dir) / "log.jsonl")
    assert [event["message"] for event in events if event["event"] == "classes"] == [f"{val}: has 3 of the 10, found by name"]
    reported = [event for event in events if event["event"] == "eval"][-1]

    checkpoint = Path(config.run.dir) / "checkpoints" / "last.pt"
    model = timm.create_model("deit_tiny_patch16_224", num_classes=10, img_size=32, **TINY).eval()
    model.load_state_dict(load_checkpoint(checkpoint)["model"])
    loader = eval_loader(config.data, config.augment, rank=0, world_size=1, device=CPU)
    with torch.inference_mode():
        logits = torch.cat([model(batch.images) for batch in loader])
    digit_of = np.array([int(name) for name in names])
    wanted = torch.from_numpy(digit_of[open_beton(val).labels])
    assert reported["num_images"] == len(wanted)
    assert reported["top1"] == pytest.approx(100 * (logits.argmax(1) == wanted).double().mean().item())
    assert reported["loss"] == pytest.approx(torch.nn.functional.cross_entropy(logits, wanted).item(), rel=1e-5)

    result = _evaluated(config, checkpoint, val)
    assert (result["top1"], result["loss"]) == (reported["top1"], reported["loss"])
    assert "3 of 10 classes" in capsys.readouterr().out

    torch.save(model.state_dict(), tmp_path / "other.pth")
    with pytest.raises(UserError, match=r"other\.pth: decides between 10 classes, .*some\.beton has 3; want weights"):
        _evaluated(config, tmp_path / "other.pth", val)
    Path(f"{val}.json").unlink()  # as a stock beton: its labels are 0 to 2
    assert _evaluated(config, tmp_path / "other.pth", val)["num_images"] == len(wanted)
    assert "labels up to 2 for 10 classes" in capsys.readouterr().out


def test_a_training_set_of_one_class_brings_a_warning(tiny_run: MakeRun, digits: Path, tmp_path: Path) -> None:
    one = _some_digits(tmp_path, digits / "train", "7")
    config = tiny_run(**{"data.train": one, "data.val": one, "train.epochs": 1, "schedule.warmup_epochs": 0.0})
    train(config, [])
    events = read_events(Path(config.run.dir) / "log.jsonl")
    (line,) = [event["message"] for event in events if event["event"] == "warning"]
    assert line.startswith(f"{one}: all images are of one class")


def test_a_checkpoint_of_other_classes_is_refused(
    finished_run: tuple[RunConfig, dict[str, Any]], digits: Path, tmp_path: Path
) -> None:
    config, summary = finished_run
    (tmp_path / "letters").mkdir()
    for digit, letter in (("0", "0"), ("1", "a")):
        (tmp_path / "letters" / letter).symlink_to(digits / "val" / digit)
    val = _some_digits(tmp_path, tmp_path / "letters", ("0", "a"))
    checkpoint = Path(config.run.dir) / summary["checkpoint"]
    with pytest.raises(UserError, match=r"has 2 classes and checkpoint .* has 10; class 1 of the former, 'a', is not there"):
        _evaluated(config, checkpoint, val)
