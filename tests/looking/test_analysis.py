"""`analyse` of runs on the digits: its numbers are those of `eval` and of PyTorch, and its page holds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from deit_fast.config import RunConfig, UserError
from deit_fast.looking.analysis import analyse
from deit_fast.model.create import create_model
from deit_fast.plan.training import train
from deit_fast.record.log import as_json
from deit_fast.train.checkpoint import load_checkpoint
from deit_fast.train.evaluate import evaluate_checkpoint
from tests.report.made_up_runs import Page
from tests.tiny_runs import MakeRun, with_options

DEPTH = 4  # of the distilled run


def analysis_of(run: Path, folder: Path, **options: Any) -> tuple[dict[str, Any], Page]:
    given = {"analyse.run": str(run), "analyse.html": str(folder / "a.html"), "train.device": "cpu", "data.num_workers": 1}
    result = analyse(with_options({**given, **options}))
    json.dumps(as_json(result), allow_nan=False)
    return result, Page(folder / "a.html")


@pytest.mark.slow
def test_a_distilled_run(distilled_run: Path, digits: Path, tmp_path: Path) -> None:
    result, page = analysis_of(distilled_run, tmp_path)
    checkpoint = str(distilled_run / "checkpoints" / "best.pt")
    # each head, and both, as `eval` finds them
    for heads, name in (("class", "class head"), ("distillation", "distillation head"), ("both", "both heads")):
        options = {"eval.checkpoint": checkpoint, "eval.heads": heads, "data.val": str(digits / "val.beton")}
        wanted = evaluate_checkpoint(with_options({**options, "train.device": "cpu", "data.num_workers": 1}))
        assert result["accuracies"][name] == pytest.approx(wanted["top1"])
    assert result["decider"] == "both heads"
    assert (result["top1"], result["top5"]) == pytest.approx((wanted["top1"], wanted["top5"]))
    assert result["loss"] == pytest.approx(wanted["loss"], rel=1e-5)
    for name, accuracy in result["accuracies"].items():
        assert result["disagreement"]["label"][name] == pytest.approx(1 - accuracy / 100)
    assert set(result["accuracies"]) == {"class head", "distillation head", "both heads", "teacher"}
    # the tokens become more similar on their way through the blocks
    cosines = result["token_cosines"]
    assert len(cosines) == DEPTH + 1
    assert min(cosines[1:]) > cosines[0]
    assert cosines[-1] > cosines[0] + 0.2
    assert sum(row["num_images"] for row in result["classes"]) == result["num_images"] == 359
    right = sum(row["num_images"] * row["top1"] / 100 for row in result["classes"])
    assert 100 * right / 359 == pytest.approx(result["top1"])
    assert sum(row["num_images"] for row in result["confusions"]) == 359 - round(right)
    assert sum(result["calibration"]["num_images"]) == 359
    assert len(result["attention"]) == 8
    assert np.shape(result["attention"][0]["rollout"]["distillation"]) == (4, 4)
    wrong = [one["confidence"] for one in result["confidently_wrong"]]
    assert wrong == sorted(wrong, reverse=True)
    assert all(one["label"] != one["predicted"] for one in result["confidently_wrong"])
    titles = ["Heads and teacher", "Class and distillation token", "Attention", "First layer", "Classes", "Calibration"]
    assert [text for text in page.texts if text in titles] == titles
    assert ["teacher", f"{result['accuracies']['teacher']:.2f} %"] in page.rows
    assert ["Top-1", f"{result['top1']:.2f} %"] in page.rows


@pytest.mark.slow
def test_pictures_and_a_teacher_that_is_gone(distilled_run: Path, digits: Path, tmp_path: Path) -> None:
    """Files show what the beton of the same files shows; without the teacher's weights nothing is said of it."""
    files = sorted((digits / "val").rglob("*.jpg"))[:2]
    moved = tmp_path / "run"
    (moved / "checkpoints").mkdir(parents=True)
    for name in ("run.json", "log.jsonl"):
        text = (distilled_run / name).read_text().replace("checkpoints/best.pt", "checkpoints/gone.pt")
        (moved / name).write_text(text)
    (moved / "checkpoints" / "best.pt").symlink_to(distilled_run / "checkpoints" / "best.pt")
    result, _ = analysis_of(moved, tmp_path, **{"analyse.pictures": tuple(map(str, files))})
    assert [one["image"] for one in result["attention"]] == [file.name for file in files]
    assert "teacher" not in result["accuracies"]
    assert any("gone.pt is not there" in line for line in result["remarks"])
    # the first file is the first image of the validation set
    whole, _ = analysis_of(distilled_run, tmp_path)
    first = next(one for one in whole["attention"] if one["image"] == "sample 0")
    np.testing.assert_array_equal(first["last_layer"], result["attention"][0]["last_layer"])
    # and its attention that of PyTorch's own way from the file to the model
    content = load_checkpoint(distilled_run / "checkpoints" / "best.pt")
    config = RunConfig().changed({f"model.{name}": value for name, value in content["architecture"].items()})
    model = create_model(config.model, num_classes=10, resolution=32)
    model.load_state_dict(content["state_dict"])
    pixels = torch.from_numpy(np.array(Image.open(files[0]).resize((36, 36), Image.Resampling.BICUBIC))[2:34, 2:34])
    view = content["view"]
    image = (pixels.permute(2, 0, 1) / 255 - torch.tensor(view["mean"]).view(3, 1, 1)) / torch.tensor(view["std"]).view(3, 1, 1)
    with torch.inference_mode():
        tokens: Any = model.eval()
        hidden = tokens._pos_embed(tokens.patch_embed(image[None]))
        for block in tokens.blocks[:-1]:
            hidden = block(hidden)
        block = tokens.blocks[-1]
        queries, keys, _ = block.attn.qkv(block.norm1(hidden)).chunk(3, -1)
        scores = queries[0].unflatten(1, (2, 24)).transpose(0, 1) @ keys[0].unflatten(1, (2, 24)).permute(1, 2, 0)
        wanted = (scores / 24**0.5).softmax(-1)[:, 0, 2:].unflatten(1, (4, 4)).numpy()
    np.testing.assert_allclose(result["attention"][0]["last_layer"], wanted, rtol=2e-3, atol=1e-5)


@pytest.mark.slow
def test_a_convnet_has_what_applies(tiny_run: MakeRun, digits: Path, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"model.name": "resnet10t", "model.options": {}, "model.drop_path": 0.0, "train.epochs": 1}
    config = tiny_run(**changes, **{"data.subset": 128, "schedule.warmup_epochs": 0})
    train(config, ["deit-fast", "train"])
    weights = Path(config.run.dir) / "checkpoints" / "last.pt"
    result, page = analysis_of(weights, tmp_path)
    assert (result["token_cosines"], result["attention"], result["decider"]) == ([], [], "model")
    sections = ["Heads and teacher", "Class and distillation token", "Attention", "First layer", "Classes", "Calibration"]
    assert [text for text in page.texts if text in sections] == ["First layer", "Classes", "Calibration"]


def test_what_cannot_be_analysed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"analyse\.run is not set: want the folder of a run"):
        analyse(RunConfig())
    with pytest.raises(UserError, match=r"has no checkpoints/best\.pt; want the folder of a run, or a file of weights"):
        analyse(with_options({"analyse.run": str(tmp_path)}))
    with pytest.raises(UserError, match=r"data\.val is not set"):
        analyse(with_options({"analyse.run": str(tmp_path / "a" / "b" / "weights.pt")}))
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "LOCAL_RANK": "0", "MASTER_ADDR": "a", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="analyse runs in one process: start it without torchrun"):
        analyse(with_options({"analyse.run": str(tmp_path)}))
