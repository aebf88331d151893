from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deit_fast.config import UserError
from deit_fast.record.log import EventLog
from deit_fast.record.run import write_json
from deit_fast.report.figures import inference_points
from deit_fast.report.inputs import read_inputs
from deit_fast.report.published import published_figures
from tests.report.made_up_runs import Page, make_run, report

OPTIONS = {"data.train": "/betons/digits-train.beton", "data.val": "/betons/digits-val.beton"}


def datasets(**changes: Any) -> dict[str, Any]:
    train = {"num_images": 1438, "num_classes": 10, "labels": "0a"}
    return {"datasets": {"train": train, "val": {"num_images": 360, "num_classes": 10, "labels": "1b"} | changes}}


def make_sweep(folder: Path) -> Path:
    """Five points: two that finished, one that failed at its start, one that failed while it trained, one not begun."""
    folder.mkdir()
    write_json(folder / "sweep.json", {"name": "sizes", "options": ["data.resolution"], "num_points": 5})
    for name in ("a", "b"):
        make_run(folder / name)
    make_run(folder / "broken", epochs=0)
    (folder / "broken" / "log.jsonl").write_text("")
    make_run(folder / "stopped", finished=False, epochs=2)
    with EventLog(folder / "points.jsonl") as log:
        log.write("point", point="b", options={"data.resolution": 64}, status="failed", error="a first try")
        log.write("point", point="b", options={"data.resolution": 64}, status="finished")
        log.write("point", point="a", options={"data.resolution": 32}, status="finished")
        log.write("point", point="broken", options={"data.resolution": 33}, status="failed", error="<script>no</script>")
        log.write("point", point="stopped", options={"data.resolution": 96}, status="failed", error="SIGKILL")
    with (folder / "points.jsonl").open("a") as file:
        file.write('{"event": "poi')  # cut by a kill
    return folder


def bench_eval(path: Path, *rows: tuple[str, str, int, float | None]) -> Path:
    found = [
        {
            "model": model, "precision": precision, "batch_size": batch_size, "num_parameters": 5, "resolution": 224,
            "images_per_second": None if rate is None else {"median": rate, "min": rate, "max": rate},
        }
        for model, precision, batch_size, rate in rows
    ]  # fmt: skip
    skipped = {"model": "vit_huge", "precision": "fp32", "batch_size": None, "reason": "does not fit into memory"}
    write_json(path, {"kind": "eval", "rows": found, "skipped": [skipped], "hardware": {}})
    return path


def test_points_of_a_sweep_are_runs_or_failures(tmp_path: Path) -> None:
    inputs = read_inputs([str(make_sweep(tmp_path / "sweep"))])
    assert [one.label for one in inputs.runs] == ["1 b", "2 a", "3 stopped"]
    assert [(point.name, point.error) for point in inputs.failed] == [("broken", "<script>no</script>"), ("stopped", "SIGKILL")]
    assert inputs.sweeps == ["sizes: 5 points, 2 finished, 2 failed, 1 with a run that is unfinished, 1 not begun"]
    report(tmp_path / "sweep")
    html = (tmp_path / "sweep" / "report.html").read_text()
    assert "<script>no" not in html
    texts = Page(html).texts
    assert {"<script>no</script>", "data.resolution=33", "failed", "Failed points"} <= set(texts)


def test_folder_of_runs_without_a_word_about_a_sweep_is_one(tmp_path: Path) -> None:
    for name in ("x", "y"):
        make_run(tmp_path / "runs" / name)
    make_run(tmp_path / "other" / "x")
    point = make_run(tmp_path / "data.resolution=32,model.name=deit_tiny,train.ema_decay=0.9")
    inputs = read_inputs([str(tmp_path / "runs"), str(tmp_path / "runs" / "y"), str(tmp_path / "other" / "x"), str(point)])
    # each once, and told apart
    assert [one.name for one in inputs.runs] == ["runs/x", "y", "other/x", "resolution=32, deit_tiny, ema_decay=0.9"]


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
    for place, (fields, num_images, words) in enumerate(others):
        val = {"data.val": "/betons/flowers.beton"}
        other = make_run(tmp_path / f"other-{place}", start=fields, num_images=num_images, options=OPTIONS | val)
        with pytest.raises(UserError) as caught:
            report(first, silent, other)
        message = str(caught.value)
        for part in (
            str(first),
            str(other),
            "different datasets",
            "digits-val",
            f"data.val=/betons/flowers.beton with {words}",
        ):
            assert part in message
        assert "\n" not in message
    assert not list(tmp_path.glob("*/report.html"))
    assert not list(tmp_path.glob("*/curves.png"))


def test_bench_joins_runs_by_model_and_published_where_there_is_none(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", model="deit_tiny_patch16_224", top1=70.0)
    better = make_run(tmp_path / "better", model="deit_tiny_patch16_224", top1=71.0)
    file = bench_eval(
        tmp_path / "eval.json", ("deit_tiny_patch16_224", "fp32", 1, 900.0), ("deit_tiny_patch16_224", "fp32", 64, 1500.0),
        ("deit_base_patch16_224", "fp32", 1, 100.0), ("resnet18", "fp32", 1, 80.0), ("cait_s24_224", "fp32", 256, None),
    )  # fmt: skip
    inputs = read_inputs([str(run), str(better), str(file)])
    points = inference_points(inputs, published_figures(["paper"]))
    here = [(point.x, point.top1, point.label, point.is_published) for point in points if point.group != "published"]
    assert here == [(1500.0, 75.0, "2", False), (100.0, 81.8, "DeiT-B", True)]
    assert {(point.label, point.x) for point in points if point.group == "published"} == {
        ("DeiT-Ti", 2536), ("DeiT-S", 940), ("DeiT-B", 292),
    }  # fmt: skip
    result = report(file, published=("paper", "ffcv-imagenet"))
    assert result["html"] == str(tmp_path / "report.html")
    texts = Page((tmp_path / "report.html").read_text()).texts
    assert {
        "cait_s24_224",
        "1,500",
        "vit_huge",
        "does not fit into memory",
        "RN-18 16 ep",
        "1 A100",
        "libffcv/ffcv-imagenet, README",
        "14 min 54 s",
    } <= set(texts)


def test_results_of_other_kinds_of_bench_are_listed(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    content = {"results": [{"case": "<first>", "rounds": [1, 2]}, {"case": "x" * 999}], "hardware": {"cpu": "a"}, "config": {}}
    write_json(file, content)
    report(file)
    texts = Page((tmp_path / "report.html").read_text()).texts
    assert {"results.1.case", "<first>", "results.2.case", "hardware.cpu"} <= set(texts)
    assert "results.1.rounds" not in texts
    assert max(map(len, texts)) < 400


def test_other_files_and_options_that_do_not_fit_get_one_line(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    strange = tmp_path / "strange.json"
    strange.write_text('{"a": 1}')
    broken = tmp_path / "broken.json"
    broken.write_text('{"kind": "eval", "rows": [{"model": "x"}], "hardware": {}}')
    words = tmp_path / "words.json"
    words.write_text(broken.read_text().replace("}]", ', "precision": "fp32", "batch_size": "8"}]'))
    none = tmp_path / "none"
    none.mkdir()
    (none / "sweep.json").write_text('{"name": "none"}')
    log = (run / "log.jsonl").read_bytes()
    wrong: list[tuple[tuple[Path, ...], dict[str, Any], str]] = [
        ((run, strange), {}, "strange.json: not a result of bench"),
        ((run, broken), {}, "broken.json: want `rows` with model, precision"),
        ((run, words), {}, "words.json: want `rows` with model, precision"),
        ((none,), {}, "none: holds no run that trained"),
        ((run,), {"published": ("papers",)}, "report.published=papers: want any of paper, ffcv-imagenet"),
        ((run,), {"csv": str(run / "log.jsonl")}, "log.jsonl: is the name of a record"),
        ((run,), {"csv": str(tmp_path / "x"), "markdown": str(tmp_path / "x")}, "is report.markdown too"),
        ((run,), {"images": str(strange)}, "strange.json: is a file; want a folder"),
        ((run,), {"markdown": str(tmp_path)}, "is a folder"),
    ]
    for paths, options, message in wrong:
        with pytest.raises(UserError, match=message) as caught:
            report(*paths, **options)
        assert "\n" not in str(caught.value)
    assert not (run / "report.html").exists()
    assert (run / "log.jsonl").read_bytes() == log


def test_result_of_another_make_gets_one_line(tmp_path: Path) -> None:
    wrong: list[dict[str, Any]] = [
        {"prediction": 3}, {"prediction": {"seconds": {"compute": "1"}}}, {"seconds": {"setup": "x"}}, {"wall_seconds": []},
    ]  # fmt: skip
    for place, fields in enumerate(wrong):
        run = make_run(tmp_path / f"run-{place}", end=fields)
        with pytest.raises(UserError, match="where a number is wanted"):
            report(run)
    (run / "log.jsonl").write_text(json.dumps({"event": "step", "epoch": 0, "step": 0, "loss": "<b>"}) + "\n")
    with pytest.raises(UserError, match="an event 'step' has something else where a number is wanted"):
        report(run)
