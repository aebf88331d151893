"""What a resumed run is held against: the content of its files; and a run that has come to its end, which stays as it is."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from ffcv.types import FieldDescType, HeaderType

from deit_fast.config import RunConfig, SourceConfig, UserError, WriteConfig
from deit_fast.data.convert.write import write_beton
from deit_fast.data.format import layout
from deit_fast.data.format.beton import manifest_path
from deit_fast.plan.training import train
from deit_fast.record import run as record
from deit_fast.record.log import read_events
from deit_fast.train.checkpoint import load_checkpoint, save_checkpoint
from tests.tiny_runs import TINY, MakeRun
from tests.train.learners import TEACHER

Finished = tuple[RunConfig, dict[str, Any]]


def _again(config: RunConfig, folder: Path, **data: Any) -> RunConfig:
    """The same run in another folder, resumed, with other places of its betons."""
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, **data),
        run=dataclasses.replace(config.run, dir=str(folder)),
        train=dataclasses.replace(config.train, resume=True),
    )


def _copied(config: RunConfig, folder: Path) -> Path:
    shutil.copytree(config.run.dir, folder)
    return folder


def _files(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(path): (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


def _with_swapped_labels(beton: Path, out: Path) -> None:
    """A copy in which the first sample and the last have each other's label."""
    content = bytearray(beton.read_bytes())
    shutil.copy(manifest_path(beton), manifest_path(out))
    num_samples = int(np.frombuffer(content, HeaderType, 1)["num_samples"][0])
    start = HeaderType.itemsize + len(layout.FIELDS) * FieldDescType.itemsize
    rows = np.frombuffer(content, layout.METADATA_TYPE, num_samples, start)
    labels = rows[rows.dtype.names[1]]
    assert labels[0] != labels[-1]
    labels[[0, -1]] = labels[[-1, 0]]
    out.write_bytes(content)


def test_a_finished_run_stays_as_it_is(finished_run: Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, summary = finished_run
    folder = _copied(config, tmp_path / "run")
    before = _files(folder)
    capsys.readouterr()
    resumed = train(_again(config, folder), ["deit-fast", "train"])
    assert (resumed["weights_sha256"], resumed["best_top1"]) == (summary["weights_sha256"], summary["best_top1"])
    best = f"{summary['best_top1']:.2f}"
    assert capsys.readouterr().out == f"{folder}: this run has come to its end: best top-1 {best} %; nothing is done\n"
    assert _files(folder) == before


def test_an_end_that_was_not_written_down_is(finished_run: Finished, tmp_path: Path) -> None:
    config, summary = finished_run
    folder = _copied(config, tmp_path / "run")
    (folder / "summary.json").write_text("{")
    assert train(_again(config, folder), [])["weights_sha256"] == summary["weights_sha256"]
    assert [event["event"] for event in read_events(folder / "log.jsonl")].count("start") == 2


def test_a_summary_that_finds_no_room_is_written_by_resuming(
    finished_run: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, summary = finished_run
    folder = _copied(config, tmp_path / "run")
    (folder / "summary.json").unlink()
    write_json = record.write_json

    def no_room(path: Path, value: object) -> None:
        if path.name == "summary.json":
            raise OSError(28, "No space left on device")
        write_json(path, value)

    with monkeypatch.context() as patch:
        patch.setattr(record, "write_json", no_room)
        with pytest.raises(UserError, match=r"summary\.json: could not be written \(No space left .*--train\.resume$"):
            train(_again(config, folder), [])
    assert train(_again(config, folder), [])["weights_sha256"] == summary["weights_sha256"]
    assert (folder / "summary.json").is_file()


def test_a_target_that_was_reached_is_an_end_until_it_is_raised(tiny_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny_run(**{"budget.until": "top1=0.1", "train.resume": True, "data.subset": 128})
    assert train(config, [])["stopped"] == "target"
    before = _files(Path(config.run.dir))
    capsys.readouterr()
    assert train(config, [])["stopped"] == "target"
    assert "has come to its end: top1=0.1 is reached; best top-1 " in capsys.readouterr().out
    assert _files(Path(config.run.dir)) == before
    higher = dataclasses.replace(config, budget=dataclasses.replace(config.budget, until="top1=100"))
    summary = train(higher, [])
    assert (summary["epoch"], summary["stopped"]) == (1, "")


@pytest.mark.parametrize("which", ["train", "val"])
def test_other_labels_are_refused(finished_run: Finished, tmp_path: Path, which: str) -> None:
    config, _ = finished_run
    other = tmp_path / "other.beton"
    _with_swapped_labels(Path(getattr(config.data, which)), other)
    again = _again(config, _copied(config, tmp_path / "run"), **{which: str(other)})
    with pytest.raises(UserError, match=rf"^data\.{which}={other}: holds other labels than the run of checkpoint .*new run$"):
        train(again, [])


def test_other_images_are_refused_and_the_same_ones_elsewhere_are_not(
    finished_run: Finished, digits: Path, tmp_path: Path
) -> None:
    config, summary = finished_run
    folder = _copied(config, tmp_path / "run")
    for name, mode in (("same", "jpg"), ("other", "raw")):
        options: dict[str, Any] = {"out": str(tmp_path / f"{name}.beton"), "mode": mode, "num_workers": 2}
        write_beton(SourceConfig(path=str(digits / "val")), WriteConfig(**options))
    same = train(_again(config, folder, val=str(tmp_path / "same.beton")), [])
    assert same["weights_sha256"] == summary["weights_sha256"]
    with pytest.raises(UserError, match=r"^data\.val=.*other\.beton: holds other images than the run"):
        train(_again(config, folder, val=str(tmp_path / "other.beton")), [])


def test_a_checkpoint_that_does_not_say_is_taken(finished_run: Finished, tmp_path: Path) -> None:
    """Those of earlier versions have no digests."""
    config, _ = finished_run
    folder = _copied(config, tmp_path / "run")
    newest = max((folder / "checkpoints").glob("step-*.pt"))
    content = load_checkpoint(newest)
    assert sorted(content.pop("digests")) == ["data.train", "data.val"]
    save_checkpoint(newest, content)
    other = tmp_path / "other.beton"
    _with_swapped_labels(Path(config.data.val), other)
    assert train(_again(config, folder, val=str(other)), [])["stopped"] == ""


def test_another_teacher_is_refused_and_the_same_one_elsewhere_is_not(tiny_run: MakeRun, tmp_path: Path) -> None:
    torch.manual_seed(1)
    teacher = timm.create_model("deit_tiny_patch16_224", num_classes=10, img_size=32, **TEACHER)
    for name in ("first", "second"):
        torch.save({"model": teacher.state_dict()} if name == "second" else teacher.state_dict(), tmp_path / f"{name}.pth")
    with torch.no_grad():
        next(teacher.parameters()).flatten()[0] += 1e-3
    torch.save(teacher.state_dict(), tmp_path / "third.pth")
    options = {
        "distil.kind": "hard", "distil.teacher": "deit_tiny_patch16_224", "distil.teacher_options": TEACHER,
        "model.name": "deit_tiny_distilled_patch16_224", "model.options": TINY, "train.epochs": 2, "data.subset": 128,
        "schedule.warmup_epochs": 0, "train.resume": True,
    }  # fmt: skip

    def run(name: str) -> dict[str, Any]:
        return train(tiny_run(**options, **{"distil.teacher_weights": str(tmp_path / f"{name}.pth")}), [])

    first = run("first")
    assert run("second")["weights_sha256"] == first["weights_sha256"]
    with pytest.raises(UserError, match=r"^distil\.teacher_weights=.*third\.pth: holds other weights than the run of"):
        run("third")
