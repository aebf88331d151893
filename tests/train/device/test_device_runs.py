"""Runs whose images are decoded on the device, or in the simulator of one: evaluation, and a placement that changes."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("numba_cuda")

from deit_fast.config import RunConfig
from deit_fast.data.load.loader import Batch
from deit_fast.plan.training import train
from deit_fast.train.evaluate import evaluate_checkpoint
from deit_fast.train.trainer import Trainer
from tests.data.image_folders import convert, make_images
from tests.kernels.cuda.devices import on_devices
from tests.tiny_runs import events_of, with_options

GPU, CPU = ({"data.decode": place, "augment.device": place} for place in ("gpu", "cpu"))
NUM_STEPS = 4


@pytest.fixture(scope="module")
def beton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve images in three classes."""
    folder: Path = tmp_path_factory.mktemp("few")
    convert(make_images(folder / "images"), folder / "few.beton")
    return folder / "few.beton"


def _config(beton: Path, folder: Path, device: str, **changes: Any) -> RunConfig:
    """Two epochs of two steps with views of 8 pixels, which are erased and mixed."""
    return with_options(
        {
            "data.train": str(beton), "data.val": str(beton), "data.batch_size": 6, "data.eval_batch_size": 5,
            "data.resolution": 8, "data.num_workers": 1, "augment.auto_augment": "", "augment.repeats": 1,
            "model.name": "deit_tiny_patch16_224", "train.epochs": NUM_STEPS // 2, "schedule.warmup_epochs": 0.0,
            "model.options": {"patch_size": 4, "embed_dim": 16, "depth": 1, "num_heads": 1}, "train.device": device,
            "train.amp": "off", "train.checkpoint_steps": 1, "run.dir": str(folder), **changes,
        }
    )  # fmt: skip


def _until(step: int, config: RunConfig, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Digests of the batches that a session trains on, which is interrupted in a step of it, if it has so many."""
    digests: list[str] = []
    train_on = Trainer.train_on

    def noted(trainer: Trainer, batch: Batch, epoch: int, place: int) -> None:
        if len(digests) == step:
            raise KeyboardInterrupt
        shown = b"".join(tensor.cpu().contiguous().numpy().tobytes() for tensor in (batch.images, batch.targets))
        digests.append(hashlib.sha256(shown).hexdigest())
        train_on(trainer, batch, epoch, place)

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "train_on", noted)
        if step >= NUM_STEPS:
            train(config, [])
            return digests
        with pytest.raises(KeyboardInterrupt):
            train(config, [])
        return digests


@on_devices
@pytest.mark.slow
def test_a_run_changes_its_placement_between_sessions(
    beton: Path, device: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = _until(NUM_STEPS, _config(beton, tmp_path / "whole", device, **CPU), monkeypatch)
    folder, resumed = tmp_path / "parts", {"train.resume": True}
    auto = dict.fromkeys(GPU, "auto")
    parts = _until(1, _config(beton, folder, device, **CPU), monkeypatch)
    parts += _until(1, _config(beton, folder, device, **GPU, **resumed), monkeypatch)
    parts += _until(1, _config(beton, folder, device, **auto, **resumed), monkeypatch)
    parts += _until(NUM_STEPS, _config(beton, folder, device, **resumed), monkeypatch)  # with the defaults, on the CPU
    assert len(set(whole)) == NUM_STEPS
    if device == "cpu":
        assert parts == whole
        first, last = (torch.load(run / "checkpoints" / "last.pt")["model"] for run in (tmp_path / "whole", folder))
        assert all(torch.equal(first[name], last[name]) for name in first)
    assert len(parts) == NUM_STEPS
    lines = [event["message"] for event in events_of(folder, "placement")]
    there, here = (f"data.decode={place}, augment.device={place}" for place in ("gpu", "cpu"))
    assert lines == [f"{there}; before: {here}", f"{here}; before: {there}"]


@on_devices
@pytest.mark.slow
def test_evaluation_gives_the_cpus_result(beton: Path, device: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In training, and of its checkpoint."""
    run = _config(beton, tmp_path / "run", device, **GPU, **{"train.epochs": 1, "train.ema_decay": 0.5})
    train(run, [])
    evaluated = events_of(tmp_path / "run", "eval")
    assert [event["weights"] for event in evaluated] == ["model", "ema"]
    options = {"data.val": str(beton), "data.eval_batch_size": 5, "train.device": device, "train.amp": "off"}
    for event, there in zip(evaluated, ("gpu", "auto"), strict=True):
        options |= {"eval.checkpoint": str(tmp_path / "run/checkpoints/last.pt"), "eval.weights": event["weights"]}
        results = []
        for place in (there, "cpu"):
            capsys.readouterr()
            result = evaluate_checkpoint(with_options({**options, "data.decode": place}))
            assert result["decode"] == ("cpu" if place == "cpu" else "gpu")
            assert ("decoded on the GPU" in capsys.readouterr().out) == (place != "cpu")
            results.append({name: result[name] for name in ("top1", "top5", "loss", "num_images", "images_refused")})
        assert results[0] == results[1] == {name: event[name] for name in results[0]}
        assert results[0]["num_images"] == 12
