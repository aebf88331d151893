"""`deit-fast predict`: the classes of `eval`, from any kind of model, for any kind of file; what does not decode is named."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from deit_fast import __main__ as command_line
from deit_fast.config import AugmentConfig, DataConfig, RunConfig, UserError
from deit_fast.data.load.loader import eval_loader
from deit_fast.export.export import export_model
from deit_fast.predict import predict as predicting
from deit_fast.predict.inputs import list_images
from deit_fast.predict.predict import predict_images
from deit_fast.predict.views import ViewMaker
from deit_fast.train.evaluate import Decision, evaluate_checkpoint
from deit_fast.train.trained import read_trained
from tests.predict.images import encoded, odd_files, own_threads, photograph, sound_files, written
from tests.tiny_runs import with_options

Finished = tuple[RunConfig, dict[str, Any]]


@pytest.fixture(scope="module")
def checkpoint(finished_run: Finished) -> str:
    return str(Path(finished_run[0].run.dir) / "checkpoints" / "last.pt")


@pytest.fixture(scope="module")
def classes_of_eval(checkpoint: str, digits: Path) -> list[str]:
    """The class that the checkpoint gives to each validation image, through evaluation's loader; in agreement with `eval`."""
    trained = read_trained(RunConfig(), checkpoint)
    data, augment = trained.view.shown_by(DataConfig(val=str(digits / "val.beton"), num_workers=1), AugmentConfig())
    decision = Decision(trained.create(32)[0].eval(), RunConfig().eval)
    loader = eval_loader(data, augment, rank=0, world_size=1, device=torch.device("cpu"))
    with torch.inference_mode():
        found = [(decision(batch.images).argmax(1), batch.targets) for batch in loader]
    loader.close()
    labels, targets = (torch.cat(parts) for parts in zip(*found, strict=True))
    options = {"eval.checkpoint": checkpoint, "data.val": str(digits / "val.beton"), "data.num_workers": 1}
    top1 = evaluate_checkpoint(with_options(options))["top1"]
    assert top1 == pytest.approx(100 * (labels == targets).double().mean().item())
    assert trained.classes is not None
    return [trained.classes[label] for label in labels.tolist()]


def predicted(model: str | Path, *images: str | Path, **changes: Any) -> dict[str, Any]:
    options = {"predict.model": str(model), "predict.images": tuple(map(str, images)), "data.num_workers": 2, **changes}
    return predict_images(with_options({"train.device": "cpu", **options}))


def kept(model: str | Path, *images: str | Path, **changes: Any) -> list[dict[str, Any]]:
    """The entries that --out would hold."""
    options = {"predict.model": str(model), "predict.images": tuple(map(str, images)), "data.num_workers": 2, **changes}
    config = with_options({"train.device": "cpu", **options})
    entries: list[dict[str, Any]] = predict_images(RunConfig(**{**vars(config), "out": "kept.json"}))["images"]
    return entries


def test_a_checkpoint_gives_the_classes_of_eval(checkpoint: str, digits: Path, classes_of_eval: list[str]) -> None:
    entries = kept(checkpoint, digits / "val")
    assert [entry["image"] for entry in entries] == sorted(str(path) for path in (digits / "val").glob("*/*.jpg"))
    assert [entry["classes"][0] for entry in entries] == classes_of_eval
    of_beton = kept(checkpoint, digits / "val.beton", **{"data.eval_batch_size": 50})
    assert [entry["classes"] for entry in of_beton] == [entry["classes"] for entry in entries]
    assert [entry["image"] for entry in of_beton[:2]] == [f"{digits / 'val.beton'}:0", f"{digits / 'val.beton'}:1"]


@pytest.mark.slow
def test_every_exported_model_gives_the_classes_of_eval(
    checkpoint: str, digits: Path, classes_of_eval: list[str], tmp_path: Path
) -> None:
    outs = {"safetensors": tmp_path / "m.safetensors", "timm": tmp_path / "folder", "onnx": tmp_path / "m.onnx"}
    outs["pt2"] = tmp_path / "m.pt2"
    export_model(
        with_options({"export.checkpoint": checkpoint, **{f"export.{kind}": str(path) for kind, path in outs.items()}})
    )
    for path in outs.values():
        entries = kept(path, digits / "val", **{"data.eval_batch_size": 100})
        assert [entry["classes"][0] for entry in entries] == classes_of_eval
        (entry,) = kept(path, sorted((digits / "val" / "3").iterdir())[0], **{"predict.top": 99})
        assert len(entry["classes"]) == 10
        assert sum(entry["probabilities"]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("on_error", ["skip", "fail"])
def test_a_folder_with_ten_odd_files(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], on_error: str
) -> None:
    folder = written(tmp_path / "images", sound_files() | odd_files() | {"notes.txt": b"mine"})
    out, table = tmp_path / "found.json", tmp_path / "found.csv"
    words = ["predict", checkpoint, str(folder), f"--predict.on_error={on_error}", f"--out={out}", f"--predict.csv={table}"]
    status = command_line.main([*words, "--train.device=cpu", "--data.eval_batch_size=4", "--data.num_workers=2"])
    err = capsys.readouterr().err
    for name in odd_files():
        assert f"{folder / name}: not classified: " in err
    assert "warning: left out: " in err and "notes.txt" in err
    if on_error == "fail":
        assert status == 2
        assert "predict.on_error=fail: 10 of 22 images could not be classified, the first is " in err
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["images"]
        return
    assert status == 0
    result = json.loads(out.read_text())
    assert (result["num_classified"], result["num_problems"]) == (12, 10)
    names = sorted([*sound_files(), *odd_files()])
    assert [entry["image"] for entry in result["images"]] == [str(folder / name) for name in names]
    assert [bool(entry.get("problem")) for entry in result["images"]] == [name in odd_files() for name in names]
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows] == [str(folder / name) for name in names]
    for row, entry in zip(rows, result["images"], strict=True):
        assert [row[f"class_{rank}"] for rank in range(1, 6)] == (entry["classes"] or [""] * 5)
        assert row["problem"] == entry.get("problem", "")
        assert row["probability_1"] == (f"{entry['probabilities'][0]:.6f}" if entry["probabilities"] else "")


def test_a_damaged_jpeg_that_pillow_decodes_is_classified_and_named(
    checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jpeg = encoded(photograph(0), "JPEG", quality=95)
    middle = len(jpeg) // 2
    folder = written(tmp_path / "images", {"damaged.jpg": jpeg[:middle] + b"\xff\xd7\xff\xd7" + jpeg[middle:]})
    (entry,) = kept(checkpoint, folder)
    assert len(entry["classes"]) == 5
    assert "damaged" in entry["repaired"]
    assert f"{folder / 'damaged.jpg'}: damaged: " in capsys.readouterr().err


def test_what_the_screen_shows(checkpoint: str, digits: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = sorted((digits / "val" / "7").glob("*.jpg"))[0]
    (entry,) = kept(checkpoint, path, **{"predict.top": 2})
    capsys.readouterr()
    predicted(checkpoint, path, **{"predict.top": 2})
    shown = ", ".join(f"{name} {share:.2%}" for name, share in zip(entry["classes"], entry["probabilities"], strict=True))
    printed = capsys.readouterr()
    assert printed.out == f"{path}: {shown}\n"
    assert printed.err.startswith("1 images classified by deit_tiny_patch16_224, 0 not, ")


def test_a_damaged_beton_and_files_that_cannot_be_read(checkpoint: str, digits: Path, tmp_path: Path) -> None:
    beton = tmp_path / "val.beton"
    shutil.copy(digits / "val.beton", beton)
    shutil.copy(digits / "val.beton.json", tmp_path / "val.beton.json")
    content = bytearray(beton.read_bytes())
    start = content.index(b"\xff\xd8\xff", len(content) // 2)
    content[start : start + 40] = bytes(40)
    beton.write_bytes(content)
    link = tmp_path / "broken.jpg"
    link.symlink_to("nowhere")
    entries = kept(checkpoint, beton, link, digits / "val" / "0")
    bad = [entry for entry in entries if "problem" in entry]
    assert len(entries) > 360
    assert [entry["image"].rpartition("/")[2].partition(":")[0] for entry in bad] == ["val.beton", "broken.jpg"]
    assert "does not decode" in bad[0]["problem"]
    assert bad[1]["problem"] == "cannot be read: No such file or directory"


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_an_interruption_leaves_no_thread_and_no_file(
    checkpoint: str, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def interrupted(*arguments: Any) -> Iterator[Any]:
        raise error
        yield

    monkeypatch.setattr(predicting, "_classify_batch", interrupted)
    with pytest.raises(error):
        predicted(checkpoint, digits / "val", digits / "val.beton", **{"predict.csv": str(tmp_path / "a.csv")})
    assert own_threads() == []
    assert list(tmp_path.iterdir()) == []


def test_mirrored_images_are_added(checkpoint: str, digits: Path) -> None:
    path = sorted((digits / "val" / "4").glob("*.jpg"))[0]
    trained = read_trained(RunConfig(), checkpoint)
    model = trained.create(32)[0].eval()
    with ViewMaker(trained.view, batch_size=1, num_threads=1, batches_ahead=1, max_pixels=10**6) as maker:
        (batch,) = maker.batches(list_images([str(path)]))
    with torch.inference_mode():
        shares = (model(batch.images) + model(batch.images.flip(3))).softmax(1)[0]
    (entry,) = kept(checkpoint, path, **{"eval.flip": True, "predict.top": 10})
    assert entry["probabilities"] == pytest.approx(sorted(shares.tolist(), reverse=True), abs=1e-6)


@pytest.mark.parametrize(
    ("model", "changes", "message"),
    [
        ("", {}, r"predict\.model is not set"),
        ("missing.pt", {}, r"weights missing\.pt: no such file"),
        ("missing.onnx", {}, r"model missing\.onnx: no such file"),
        ("text.onnx", {}, r"model text\.onnx: onnxruntime cannot load it"),
        ("text.pt2", {}, r"model text\.pt2: cannot be read as a file of torch\.export"),
        ("text.safetensors", {}, r"model text\.safetensors: cannot be read"),
        (".", {}, r"model \.: is no folder that timm loads"),
        ("m.safetensors", {"eval.heads": "class"}, r"eval\.heads=class: m\.safetensors was exported with one output"),
        ("folder", {"data.eval_resolution": 48}, r"data\.eval_resolution=48: folder was exported for 32 pixels"),
    ],
)
def test_what_is_no_model(
    checkpoint: str, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, changes: Any, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("text.onnx", "text.pt2", "text.safetensors"):
        Path(name).write_text("text")
    if model in ("m.safetensors", "folder"):
        outs = {"export.safetensors": "m.safetensors", "export.timm": "folder"}
        export_model(with_options({"export.checkpoint": checkpoint, **outs}))
    with pytest.raises(UserError, match=message):
        predicted(model, digits / "val", **changes)


def test_what_images_need_is_asked_to_be_compiled(checkpoint: str, digits: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Path | None, tuple[str, ...]]] = []
    monkeypatch.setattr(predicting, "compile_ahead", lambda beton, parts: asked.append((beton, parts)))
    path = sorted((digits / "val" / "4").glob("*.jpg"))[0]
    kept(checkpoint, path, digits / "val.beton")
    assert asked == [(None, ("files",)), (digits / "val.beton", ("decode", "rest"))]
