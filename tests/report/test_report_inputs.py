from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deit_fast.config import UserError
from deit_fast.record.log import EventLog
from deit_fast.record.run import write_json
from deit_fast.report.contents import failed_table, runs_table
from deit_fast.report.figures import inference_points
from deit_fast.report.inputs import read_inputs
from deit_fast.report.published import published_figures
from tests.report.made_up_runs import bench_eval, make_run, report, texts

OPTIONS = {"data.train": "/betons/digits-train.beton", "data.val": "/betons/digits-val.beton"}


def datasets(**changes: Any) -> dict[str, Any]:
    train = {"num_images": 1438, "num_classes": 10, "labels": "0a"}
    return {"datasets": {"train": train, "val": {"num_images": 360, "num_classes": 10, "labels": "1b"} | changes}}


def test_points_of_a_sweep_are_runs_or_failures(tmp_path: Path) -> None:
    """Five points: two that finished, one that failed at its start, one that failed while it trained, one not begun."""
    folder = tmp_path / "sweep"
    folder.mkdir()
    write_json(folder / "sweep.json", {"name": "sizes", "options": ["data.resolution"], "num_points": 5})
    for name in ("a", "b"):
        make_run(folder / name)
    make_run(folder / "broken", epochs=0)
    (folder / "broken" / "log.jsonl").write_text("")
    make_run(folder / "stopped", finished=False, epochs=2)
    with EventLog(folder / "points.jsonl") as log:
        for name, error in (("b", "a first try"), ("b", None), ("a", None), ("broken", "<i>no"), ("stopped", "9")):
            status = "failed" if error else "finished"
            log.write("point", point=name, options={"data.resolution": 64}, status=status, error=error)
    with (folder / "points.jsonl").open("a") as file:
        file.write('{"event": "poi')  # cut by a kill
    inputs = read_inputs([str(folder)])
    assert [one.label for one in inputs.runs] == ["1 b", "2 a", "3 stopped"]
    assert inputs.sweeps == ["sizes: 5 points, 2 finished, 2 failed, 1 with a run that is unfinished, 1 not begun"]
    assert [row[8] for row in texts(runs_table(inputs))] == ["finished", "finished", "failed"]
    assert texts(failed_table(inputs)) == [
        ["broken", "sizes", "data.resolution=64", "<i>no"], ["stopped", "sizes", "data.resolution=64", "9"],
    ]  # fmt: skip


def test_folder_of_runs_without_a_word_about_a_sweep_is_one(tmp_path: Path) -> None:
    for name in ("x", "y"):
        make_run(tmp_path / "runs" / name)
    make_run(tmp_path / "other" / "x")
    point = make_run(tmp_path / "data.resolution=32,model.name=deit_tiny,train.ema_decay=0.9")
    inputs = read_inputs([str(tmp_path / "runs"), str(tmp_path / "runs" / "y"), str(tmp_path / "other" / "x"), str(point)])
    # each once, and told apart
    assert [one.name for one in inputs.runs] == ["runs/x", "y", "other/x", "resolution=32, deit_tiny, ema_decay=0.9"]
    assert inputs.sweeps == ["runs: 2 runs, 2 finished"]


def test_runs_of_different_datasets_are_refused(tmp_path: Path) -> None:
    first = make_run(tmp_path / "first", start=datasets(), options=OPTIONS)
    again = make_run(tmp_path / "again", start=datasets(), options=OPTIONS | {"data.train": "/betons/smaller.beton"})
    silent = make_run(tmp_path / "silent", options=OPTIONS)
    assert len(read_inputs([str(first), str(again), str(silent)]).runs) == 3
    others: list[tuple[dict[str, Any], int, str]] = [
        ({}, 100, "100 images"),  # of what evaluations counted, where the record has no word on the data
        (datasets(num_images=50_000), 50_000, "50000 images"),
        (datasets(num_classes=1000), 360, "1000 classes"),
        (datasets(labels="ffee"), 360, "labels with digest ffee"),
    ]
    for place, (fields, num_images, fact) in enumerate(others):
        val = {"data.val": "/betons/flowers.beton"}
        other = make_run(tmp_path / f"other-{place}", start=fields, num_images=num_images, options=OPTIONS | val)
        with pytest.raises(UserError) as caught:
            report(first, silent, other)
        message = str(caught.value)
        assert "\n" not in message
        for part in (str(first), str(other), "digits-val", f"data.val=/betons/flowers.beton with {fact}"):
            assert part in message
    assert not [*tmp_path.glob("*/report.html"), *tmp_path.glob("*/curves.png")]


def test_bench_joins_runs_by_model_and_published_where_there_is_none(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", model="deit_tiny_patch16_224", top1=70.0)
    better = make_run(tmp_path / "better", model="deit_tiny_patch16_224", top1=71.0)
    file = bench_eval(
        tmp_path / "eval.json", ("deit_tiny_patch16_224", "fp32", 1, 900.0), ("deit_tiny_patch16_224", "fp32", 64, 1500.0),
        ("deit_base_patch16_224", "fp32", 1, 100.0), ("resnet18", "fp32", 1, 80.0), ("cait_s24_224", "fp32", 256, None),
    )  # fmt: skip
    points = inference_points(read_inputs([str(run), str(better), str(file)]), published_figures(["paper"]))
    assert [(point.x, point.top1, point.label, point.is_published) for point in points] == [
        (1500.0, 75.0, "2", False), (100.0, 81.8, "DeiT-B", True),
        (2536, 72.2, "DeiT-Ti", True), (940, 79.8, "DeiT-S", True), (292, 81.8, "DeiT-B", True),
    ]  # fmt: skip


def test_input_and_options_that_do_not_fit_get_one_line_and_write_nothing(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    for name in ("none", "nothing"):
        (tmp_path / name).mkdir()
    for name in ("empty", "lacking", "text", "format"):
        make_run(tmp_path / name)
    row = '{"kind": "eval", "hardware": {}, "rows": [{"model": "x", "precision": %s, "batch_size": "8"}]}'
    contents = {
        "strange.json": '{"a": 1}', "broken.json": row % 0, "words.json": row % '"fp32"', "none/sweep.json": '{"name": "none"}',
        "empty/log.jsonl": "", "lacking/log.jsonl": '{"event": "epoch"}\n', "format/run.json": '{"format": 9}',
        "text/log.jsonl": '{"event": "step", "epoch": 0, "step": 0, "loss": "b"}\n',
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
    for name, value in (("prediction", 3), ("seconds", {"setup": "x"}), ("wall_seconds", [])):
        make_run(tmp_path / name, end={name: value})
    make_run(tmp_path / "kinds", end={"prediction": {"seconds": {"compute": "1"}}})
    log = (run / "log.jsonl").read_bytes()
    wrong: list[tuple[str, dict[str, Any], str]] = [
        ("strange.json", {}, "strange.json: not a result of bench"),
        ("broken.json", {}, "broken.json: want `rows`"),
        ("words.json", {}, "words.json: want `rows`"),
        ("nothing", {}, "nothing: not the folder of a run"),
        ("gone", {}, "gone: not the folder of a run"),
        ("empty", {}, "no events"),
        ("lacking", {}, "'epoch' has no 'epoch'"),
        ("format", {}, "format 1"),
        *((name, {}, "where a number is wanted") for name in ("text", "prediction", "seconds", "wall_seconds", "kinds")),
        ("run", {"published": ("papers",)}, "report.published=papers: want any of paper, ffcv-imagenet"),
        ("run", {"csv": str(run / "log.jsonl")}, "log.jsonl: is the name of a record"),
        ("run", {"csv": str(tmp_path / "x"), "markdown": str(tmp_path / "x")}, "is report.markdown too"),
        ("run", {"html": str(run / "checkpoints")}, "is a folder"),
        ("run", {"images": str(tmp_path / "strange.json")}, "strange.json: is a file; want a folder"),
    ]
    for name, options, message in wrong:
        with pytest.raises(UserError, match=message) as caught:
            report(run, tmp_path / name, **options)
        assert "\n" not in str(caught.value)
    for paths, message in (((), "report.runs is empty"), ((tmp_path / "none",), "none: holds no run that trained")):
        with pytest.raises(UserError, match=message):
            report(*paths)
    assert not [*tmp_path.glob("*/report.html"), *tmp_path.glob("*/curves.png")]
    assert (run / "log.jsonl").read_bytes() == log
