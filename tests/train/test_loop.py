"""Whole runs of seconds: what they leave, that they go on exactly, and what they refuse."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch

from deit_fast.config import RunConfig, UserError
from deit_fast.data.load.activity import STAGES
from deit_fast.plan.training import train
from deit_fast.record.clock import KINDS
from deit_fast.record.log import read_events
from deit_fast.train.checkpoint import load_checkpoint
from deit_fast.train.evaluate import evaluate_checkpoint
from tests.tiny_runs import TINY, MakeRun, events_of, tiny_config

Finished = tuple[RunConfig, dict[str, Any]]


def _folder(config: RunConfig) -> Path:
    return Path(config.run.dir)


def test_a_run_leaves_its_whole_record(finished_run: Finished) -> None:
    config, summary = finished_run
    folder = _folder(config)
    run = json.loads((folder / "run.json").read_text())
    assert run["config"]["model"]["options"] == TINY
    assert run["versions"]["torch"]
    events = read_events(folder / "log.jsonl")
    kinds = [event["event"] for event in events]
    assert kinds[0] == "start"
    train, val = (events[0]["datasets"][split] for split in ("train", "val"))
    assert (train["num_images"] + val["num_images"], train["num_classes"], val["num_classes"]) == (1797, 10, 10)
    assert train["labels"] != val["labels"]
    assert kinds[-1] == "end"
    assert kinds.count("epoch") == 2
    evaluations = [event for event in events if event["event"] == "eval"]
    assert [(event["epoch"], event["weights"]) for event in evaluations] == [
        (0, "model"), (0, "ema"), (1, "model"), (1, "ema"),
    ]  # fmt: skip
    assert all(event["num_images"] == 359 for event in evaluations)
    assert set(summary["seconds"]) == set(KINDS)
    assert sum(summary["seconds"].values()) == pytest.approx(summary["wall_seconds"])
    for event in events_of(_folder(config), "epoch"):
        assert list(event["loader_seconds"]) == list(STAGES)
        assert all(0 <= event["queue"][name] <= 1 for name in ("filled", "empty"))
    assert summary["best_top1"] == max(event["top1"] for event in evaluations)
    steps = [event for event in events if event["event"] == "step"]
    assert [event["step"] for event in steps] == [4, 9, 14, 19, 21, 26, 31, 36, 41, 43]
    names = sorted(path.name for path in (folder / "checkpoints").iterdir())
    assert names == ["best.pt", "last.pt", "step-00000022.pt", "step-00000044.pt"]


def test_checkpoint_loads_in_timm_with_equal_outputs(finished_run: Finished) -> None:
    path = _folder(finished_run[0]) / "checkpoints" / "last.pt"
    content = load_checkpoint(path)
    images = torch.randn(3, 3, 32, 32)
    for use_ema, key in ((False, "state_dict"), (True, "state_dict_ema")):
        theirs = timm.create_model("deit_tiny_patch16_224", num_classes=10, img_size=32, **TINY).eval()
        timm.models.load_checkpoint(theirs, str(path), use_ema=use_ema)
        ours = timm.create_model("deit_tiny_patch16_224", num_classes=10, img_size=32, **TINY).eval()
        ours.load_state_dict(content[key])
        assert torch.equal(theirs(images), ours(images))


def test_eval_repeats_what_training_found(finished_run: Finished) -> None:
    config, summary = finished_run
    result = evaluate_checkpoint(
        dataclasses.replace(
            RunConfig(),
            data=dataclasses.replace(config.data, resolution=224),
            eval=dataclasses.replace(config.eval, checkpoint=str(_folder(config) / summary["checkpoint"])),
            train=config.train,
        )
    )
    assert result["top1"] == summary["best_top1"]
    assert result["num_images"] == 359


@pytest.mark.slow
def test_a_convnet_trains_through_the_same_loop(tiny_run: MakeRun) -> None:
    config = tiny_run(
        **{
            "model.name": "ghostnet_050", "model.options": {}, "model.blurpool": True, "model.drop_path": 0.1,
            "data.resolution": 64, "data.start_resolution": 32, "data.ramp": (0.0, 0.5), "data.eval_resolution": 32,
            "augment.repeats": 1, "augment.mixup": None, "augment.cutmix": None, "optim.name": "sgd", "optim.lr": 0.1,
            "schedule.kind": "linear", "train.ema_decay": None, "eval.flip": True, "data.batch_size": 32, "data.subset": 128,
        }
    )  # fmt: skip
    train(config, [])
    events = list(read_events(_folder(config) / "log.jsonl"))
    warnings = [event["message"] for event in events if event["event"] == "warning"]
    assert "model.drop_path=0.1: ghostnet_050 has no stochastic depth and is trained without" in warnings
    epochs = [event for event in events if event["event"] == "epoch"]
    assert [event["resolution"] for event in epochs] == [32, 64]
    assert "state_dict_ema" not in load_checkpoint(_folder(config) / "checkpoints" / "last.pt")


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
@pytest.mark.slow
def test_mixed_precision_follows_full_precision(tiny_run: MakeRun, tmp_path: Path, amp: str) -> None:
    losses = []
    for precision in (amp, "off"):
        config = tiny_run(
            **{"train.amp": precision, "data.subset": 512, "train.log_every": 1, "run.dir": str(tmp_path / precision)}
        )
        train(config, [])
        losses.append([event["loss"] for event in events_of(_folder(config), "step")])
    mixed, full = losses
    assert len(mixed) == 16
    assert mixed != full
    np.testing.assert_allclose(mixed, full, rtol=0.01)


def test_loss_that_is_not_finite_stops_the_run(tiny_run: MakeRun) -> None:
    config = tiny_run(**{"optim.lr": 1e30, "schedule.warmup_epochs": 0.0})
    with pytest.raises(
        UserError, match=r"the loss is not finite at epoch 1, step 2, learning rate 1.25e\+29, on rank 0, samples [0-9]"
    ):
        train(config, [])


def test_a_run_is_not_overwritten(finished_run: Finished) -> None:
    config, _ = finished_run
    before = {path: path.read_bytes() for path in _folder(config).rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=r"run\.dir=.*holds a run"):
        train(config, [])
    assert before == {path: path.read_bytes() for path in _folder(config).rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.options": {**TINY, "depth": 3}}, "of another architecture: it holds .*depth=2.*, this run is .*depth=3"),
        ({"model.name": "deit_small_patch16_224"}, "of another architecture"),
        ({"data.batch_size": 32}, "global batch of 64, this one has 32"),
        ({"optim.weight_decay": 0.5}, r"of a run with optim\.weight_decay=0\.05, not 0\.5"),
        ({"data.train": "val.beton"}, r"data\.train=.*val\.beton: has 359 images, checkpoint .* is of a run on 1438"),
    ],
)
def test_resuming_as_another_run_is_refused(
    finished_run: Finished, digits: Path, changes: dict[str, object], message: str
) -> None:
    folder = _folder(finished_run[0])
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    if "data.train" in changes:
        changes = {"data.train": str(digits / str(changes["data.train"]))}
    with pytest.raises(UserError, match=message):
        train(tiny_config(digits, folder, **{"train.resume": True, **changes}), [])
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.train": "nowhere.beton"}, "nowhere.beton: no such file"),
        ({"data.val": ""}, r"data\.val is not set"),
        ({"train.resume": True, "run.dir": ""}, r"train\.resume: run\.dir is not set"),
        ({"data.batch_size": 63, "augment.mix_mode": "pair"}, r"data\.batch_size=63: .* even batch"),
        ({"data.batch_size": 5000}, r"data\.batch_size=5000 on 1 rank\(s\) is more than the 1438"),
        ({"data.dtype": "float16"}, r"data\.dtype=float16: want float32 without mixed precision"),
        ({"data.resolution": 36}, r"data\.resolution=36: .* 8x8"),
        ({"data.eval_resolution": 64}, r"model\.name=.*: the run has images of 32, 64 pixels, and the model does not take 64"),
        ({"model.name": "deit_tinny_patch16_224"}, "did you mean"),
        ({"schedule.warmup_epochs": 2.0}, r"schedule\.warmup_epochs=2: want fewer than train\.epochs=2"),
        ({"eval.heads": "class"}, r"eval\.heads=class: the model has one head"),
        (
            {"distil.teacher_weights": "teacher.pth"},
            r"distil\.teacher_weights=teacher\.pth: distil\.kind=off uses no teacher",
        ),
        (
            {"distil.teacher_weights": "teacher.pth", "distil.kind": "cosub"},
            r"distil\.teacher_weights=teacher\.pth: distil\.kind=cosub uses no teacher",
        ),
        ({"distil.kind": "cosub", "train.mode": "eval"}, r"distil\.kind=cosub: train\.mode=eval has no stochastic depth"),
        ({"model.options": {**TINY, "img_size": 64}}, r"model\.options: img_size=64: the run's images have 32"),
        ({"model.options": {**TINY, "patch_size": 0}}, "timm cannot build it with .*patch_size=0"),
        ({"model.blurpool": True}, r"model\.blurpool: VisionTransformer has no strided convolution"),
        ({"data.start_resolution": 64}, r"data\.start_resolution=64: want at most data\.resolution=32, or off"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tiny_run: MakeRun, changes: dict[str, object], message: str) -> None:
    config = tiny_run(**changes)
    with pytest.raises(UserError, match=message):
        train(config, [])
    assert not config.run.dir or not _folder(config).exists()
