"""What teach writes is what the teacher says of the views that training sees, whoever computes it and however often it ends."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray

import deit_fast.teach as module
from deit_fast.config import RunConfig, UserError
from deit_fast.data.load.loader import train_loader
from deit_fast.labels.file import LabelsFile
from deit_fast.teach import teach
from deit_fast.teach.answers import Ensemble
from deit_fast.train.teacher import create_teacher
from tests.teach.teachers import taught_by, teacher_weights
from tests.tiny_runs import MakeRun
from tests.train.sessions import Session

VIEWS = 5 * 16 + 7


@pytest.fixture
def config(tiny_run: MakeRun, tmp_path: Path) -> RunConfig:
    """Two epochs of 87 images, in batches of 16, mixed."""
    return tiny_run(**{
        **taught_by(teacher_weights(tmp_path)), "data.batch_size": 16, "data.subset": VIEWS,
        "teach.out": str(tmp_path / "labels.dfl"), "augment.mixup": 0.8, "augment.cutmix": 1.0,
    })  # fmt: skip


def _all(path: Path | str) -> NDArray[np.void]:
    """Answers (epochs, positions)."""
    file = LabelsFile(path)
    return np.stack([file.read(epoch, 0, file.header.num_positions) for epoch in range(file.header.num_epochs)])


def _logits(config: RunConfig, epoch: int, **changes: Any) -> torch.Tensor:
    """What the teacher says of an epoch's training batches."""
    changed = config.changed(changes)
    loader = train_loader(changed.data, changed.augment, seed=0, rank=0, world_size=1, device=torch.device("cpu"))
    teacher = create_teacher(
        changed.distil, num_classes=10, resolution=32, mean=changed.augment.mean, std=changed.augment.std,
        device=torch.device("cpu"), channels_last=True, compile_mode="off",
    )  # fmt: skip
    loader.set_epoch(epoch)
    logits = torch.cat([teacher(batch.images) for batch in loader])
    loader.close()
    return logits


def test_the_teacher_sees_the_mixed_images_of_each_epoch(config: RunConfig) -> None:
    result = teach(config)
    answers = _all(config.teach.out)
    assert (result["epochs"], result["views_per_epoch"], result["views_taught"]) == (2, 80, 160)
    for epoch in range(2):
        assert answers["classes"][epoch, :, 0].tolist() == _logits(config, epoch).argmax(1).tolist()
    assert len(np.unique(answers["classes"])) >= 4
    assert (answers["classes"][0] != answers["classes"][1]).any()


def test_or_the_views_before_mixing_all_of_them(config: RunConfig) -> None:
    changes = {"teach.of": "views", "teach.top": 10}
    result = teach(config.changed(changes))
    answers = _all(config.teach.out)
    assert result["views_per_epoch"] == VIEWS
    wanted = _logits(config, 1, **{"augment.mix_probability": 0.0}).softmax(1)
    probabilities, classes = wanted.topk(10, dim=1)
    assert answers["classes"][1, :80].tolist() == classes.tolist()
    np.testing.assert_allclose(answers["probabilities"][1, :80].astype(float), probabilities, rtol=2**-10, atol=1e-7)


@pytest.mark.parametrize("repeats", [1, 3])
def test_views_before_mixing_have_the_same_answers_in_batches_of_any_size(
    config: RunConfig, tmp_path: Path, repeats: int
) -> None:
    found = []
    for size in (16, 20, 87):
        path = tmp_path / f"{size}.dfl"
        changes = {"teach.of": "views", "data.batch_size": size, "teach.out": str(path), "augment.repeats": repeats}
        teach(config.changed(changes))
        found.append(_all(path)["classes"].tolist())
    assert found[0] == found[1] == found[2]


@pytest.mark.slow
@pytest.mark.parametrize("of", ["mixed", "views"])
def test_two_ranks_write_what_one_writes(config: RunConfig, tmp_path: Path, of: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_VIEWS", 32)
    teach(config.changed({"teach.of": of}))
    words = [
        "teach", f"--data.train={config.data.train}", "--data.batch_size=16", f"--data.subset={VIEWS}", "--data.resolution=32",
        "--data.num_workers=1", "--augment.flip=0", "--train.epochs=2", "--train.device=cpu",
        "--distil.teacher=deit_tiny_patch16_224", "--distil.teacher_options=patch_size=8,embed_dim=16,depth=1,num_heads=1",
        f"--distil.teacher_weights={config.distil.teacher_weights}", f"--teach.of={of}", f"--teach.out={tmp_path / 'two.dfl'}",
    ]  # fmt: skip
    session = Session(words, tmp_path / "stderr", num_ranks=2, program=_in_small_blocks)
    assert session.wait() == 0, session.stderr
    assert _all(tmp_path / "two.dfl").tobytes() == _all(config.teach.out).tobytes()


def _in_small_blocks(words: list[str]) -> int:
    from deit_fast.__main__ import main

    module._BLOCK_VIEWS = 32
    return main(words)


def _at_batch(monkeypatch: pytest.MonkeyPatch, number: int, action: Any) -> None:
    answer, calls = Ensemble.__call__, iter(range(1, 10**6))

    def counted(ensemble: Ensemble, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        if next(calls) == number:
            action()
        return answer(ensemble, images)

    monkeypatch.setattr(Ensemble, "__call__", counted)


def _fail() -> None:
    raise KeyboardInterrupt


def _terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize(("action", "left"), [(_fail, 48), (_terminate, 16)])  # a signal waits for the end of the block
def test_ended_it_goes_on_to_the_same_file(
    config: RunConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    action: Any,
    left: int,
) -> None:
    monkeypatch.setattr(module, "_BLOCK_VIEWS", 32)  # three blocks in an epoch: 32, 32 and 16
    whole = tmp_path / "whole.dfl"
    teach(config.changed({"teach.out": str(whole)}))
    with monkeypatch.context() as patch:
        _at_batch(patch, 8, action)  # in the second epoch's second block
        if action is _fail:
            with pytest.raises(KeyboardInterrupt):
                teach(config)
        else:
            assert teach(config)["stopped"] == "SIGTERM"
            assert "the same command continues" in capsys.readouterr().out
    assert not Path(config.teach.out).exists()
    assert teach(config)["views_taught"] == left
    assert Path(config.teach.out).read_bytes() == whole.read_bytes()
    assert teach(config)["views_taught"] == 0


def test_several_teachers_answer_by_the_mean_of_their_probabilities(config: RunConfig, tmp_path: Path) -> None:
    weights = tmp_path / "resnet.pth"
    torch.manual_seed(3)
    resnet = timm.create_model("resnet10t", num_classes=10)
    torch.nn.init.normal_(resnet.fc.weight, std=0.3)
    torch.save(resnet.state_dict(), weights)
    teach(config.changed({"teach.also": (f"resnet10t:{weights}",), "teach.top": 2, "teach.epochs": 1}))
    own = _logits(config, 0).softmax(1)
    other = _logits(
        config, 0, **{"distil.teacher": "resnet10t", "distil.teacher_options": {}, "distil.teacher_weights": str(weights)}
    ).softmax(1)
    probabilities, classes = ((own + other) / 2).topk(2, dim=1)
    answers = _all(config.teach.out)[0]
    assert answers["classes"].tolist() == classes.tolist()
    np.testing.assert_allclose(answers["probabilities"].astype(float), probabilities, rtol=2**-9)
    assert [teacher["name"] for teacher in LabelsFile(config.teach.out).header.teachers] == [
        "deit_tiny_patch16_224",
        "resnet10t",
    ]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teach.out": ""}, r"teach\.out is not set"),
        ({"distil.teacher_weights": ""}, r"distil\.teacher_weights is not set"),
        ({"teach.top": 11}, r"teach\.top=11: want at most 10, the classes of"),
        ({"data.start_resolution": 24, "teach.epochs": 1}, r"teach\.epochs=1: with data\.start_resolution=24"),
        ({"teach.of": "views", "data.on_error": "replace"}, r"teach\.of=views: data\.on_error=replace shows other images"),
        ({"teach.also": ("resnet18",)}, r"teach\.also=resnet18: want NAME:WEIGHTS"),
        ({"data.dtype": "float16"}, r"data\.dtype=float16: want float32 without mixed precision"),
        ({"distil.labels": "a.dfl"}, r"distil\.labels=a\.dfl: deit-fast teach writes labels to teach\.out"),
    ],
)
def test_what_cannot_be_taught_is_refused_and_leaves_nothing(config: RunConfig, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        teach(config.changed(changes))
    assert not list(Path(config.teach.out).parent.glob("labels*"))
