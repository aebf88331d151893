from __future__ import annotations

import base64
import dataclasses
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from deit_fast.config import ModelConfig, RunConfig, RunSection, TrainConfig, UserError
from deit_fast.record.clock import KINDS
from deit_fast.record.log import EventLog
from deit_fast.record.run import RunRecord, open_run, write_json
from deit_fast.record.runs import duration, load_run, run_numbers
from tests.report.made_up_runs import EPOCHS, SECONDS, Page, make_run, report, write_epoch, write_start


def test_page_holds_the_numbers_of_a_finished_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_run(tmp_path / "tiny")
    result = report(folder)
    html = folder / "report.html"
    assert result["html"] == str(html)
    assert capsys.readouterr().out.splitlines() == [f"report of 1 run: {html}"]
    page = Page(html.read_text())
    assert not page.open
    wanted = [
        "tiny",
        "deit_tiny",
        "finished",
        "92.00 %",
        "94.00 %",
        "4 of 4",
        "1,002",
        "1 min 31 s",
        "1 min 20 s",
        "6.0 s",
    ]
    wanted += [str(folder / "checkpoints/best.pt"), "5,717,416", "94.00 % after epoch 3", "train.epochs", "torch"]
    for text in wanted:
        assert any(text in found for found in page.texts), text
    assert "deit-fast train --x=<b>&" in page.texts  # escaped in the source, as it was on the page
    (numbers,) = result["runs"]
    assert numbers["finished"] is True
    assert numbers["seconds"] == SECONDS | {"other": 0.0}
    assert numbers["wall_seconds"] == 90.75
    assert (numbers["top1_model"], numbers["top1_model_epoch"], numbers["top1_ema"]) == (92.0, 2, 94.0)
    assert numbers["images_per_second"] == 1001.5
    json.dumps(result, allow_nan=False)


def test_page_is_self_contained_and_its_pictures_open(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "tiny")
    html = Path(report(folder)["html"]).read_text()
    page = Page(html)
    assert not [text for text in ("http:", "https:", "<link", "url(", "@import") if text in html]
    assert not [name for _, name, _ in page.attributes if name in ("href", "srcset", "action", "data")]
    assert ("meta", "content", "width=device-width, initial-scale=1") in page.attributes
    sources = [value for _, name, value in page.attributes if name == "src"]
    assert len(sources) == 4
    for source in sources:
        kind, _, content = source.partition(",")
        assert kind == "data:image/svg+xml;base64"
        root = ElementTree.fromstring(base64.b64decode(content))
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) > 10  # something is drawn
    with Image.open(folder / "curves.png") as image:
        image.load()
        assert image.format == "PNG"
        assert min(image.size) > 500
        assert len(set(image.convert("L").tobytes())) > 10  # something is drawn


def test_unfinished_run_is_said_to_be_unfinished(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "tiny", finished=False, epochs=2)
    (numbers,) = report(folder)["runs"]
    texts = Page((folder / "report.html").read_text()).texts
    assert "unfinished" in texts
    assert "finished" not in texts
    assert "2 of 4" in texts
    assert numbers["seconds"] == {**dict.fromkeys(KINDS, 0.0), "compute": 40.0, "data_wait": 1.0}
    assert numbers["checkpoint"] == str(folder / "checkpoints/last.pt")


def test_epochs_trained_again_after_a_resume_count_once(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "tiny", finished=False, epochs=3)
    config = RunConfig(model=ModelConfig(name="deit_tiny"), train=TrainConfig(epochs=9, resume=True))
    with open_run(folder, config, ["deit-fast", "train"], resume=True) as run:
        write_start(run.log, epoch=1)
        write_epoch(run.log, 1, top1=70.0, ema_top1=71.0)
    run_read = load_run(folder)
    assert [event["step"] for event in run_read.steps] == [0, 1, 2, 3]
    numbers = run_numbers(run_read)
    assert (numbers["epochs_done"], numbers["epochs"]) == (2, 9)
    assert (numbers["top1_model"], numbers["top1_ema"]) == (90.0, 92.0)  # of epoch 0: 91 of epoch 1 was replaced by 70
    assert numbers["seconds"]["compute"] == 40.0


def test_run_resumed_inside_an_epoch_keeps_the_steps_before(tmp_path: Path) -> None:
    """Epochs of 10 steps; stopped behind step 16, after a checkpoint behind step 13, from which the next session goes on."""
    folder = tmp_path / "stopped"
    config = dataclasses.replace(RunConfig(), run=RunSection(dollars_per_hour=72.0))

    def steps(run: RunRecord, first: int, last: int, loss: float) -> None:
        for step in range(first, last + 1):
            run.write("step", epoch=step // 10, step=step, loss=loss, top1=10.0 + step, lr=1e-3)

    with open_run(folder, config, ["deit-fast", "train"], resume=False) as run:
        run.write("distillation", kind="hard")
        write_start(run.log, step=0, steps_per_epoch=10)
        steps(run, 0, 9, 3.0)
        run.write("epoch", epoch=0, loss=3.0, lr=1e-3, images_per_second=100.0, seconds={"compute": 100.0})
        run.write("eval", epoch=0, weights="model", top1=20.0, loss=2.0)
        steps(run, 10, 12, 2.0)
        run.write("checkpoint", epoch=1, step=3, path="checkpoints/epoch-1-step-3.pt", best=False)
        run.write("checkpoint_failed", error="No space left on device")
        run.write("warning", message="slow")
        steps(run, 13, 15, 9.0)
        run.write("stopped", reason="SIGKILL", epoch=1, step=6)
    with open_run(folder, config, ["deit-fast", "train"], resume=True) as run:
        write_start(run.log, epoch=1, step=3, steps_per_epoch=10)
        steps(run, 13, 14, 1.0)
    run_read = load_run(folder)
    assert [(event["step"], event["loss"]) for event in run_read.steps] == [
        *((step, 3.0) for step in range(10)), *((step, 2.0) for step in (10, 11, 12)), (13, 1.0), (14, 1.0),
    ]  # fmt: skip
    numbers = run_numbers(run_read)
    assert numbers["epochs_done"] == 1
    assert numbers["checkpoint"] == str(folder / "checkpoints/epoch-1-step-3.pt")
    assert numbers["train_top1"] == 24.0
    assert numbers["dollars"] == 2.0
    report(folder)
    texts = Page((folder / "report.html").read_text()).texts
    assert {"24.00 %", "$2.00", "$2.00 at $72.00 an hour", "unfinished"} <= set(texts)


def test_finished_run_that_goes_on_is_unfinished_again(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "tiny")
    with EventLog(folder / "log.jsonl") as log:
        write_start(log, epoch=EPOCHS)
    assert load_run(folder).end is None
    assert run_numbers(load_run(folder))["epochs_done"] == EPOCHS


def test_several_runs_of_any_state_on_one_page(tmp_path: Path) -> None:
    first = make_run(tmp_path / "a <i>first & $x_$")
    diverged = tmp_path / "diverged"
    with open_run(diverged, RunConfig(), ["deit-fast", "train"], resume=False) as run:
        write_start(run.log)
        for step in range(2):
            run.log.write("step", epoch=0, step=step, loss=float("nan"), lr=1e-3)
    begun = make_run(tmp_path / "begun", finished=False, epochs=0)
    html = tmp_path / "pages" / "all.html"
    result = report(first, diverged, begun, html=str(html))
    assert result["html"] == str(html)
    texts = Page(html.read_text()).texts
    assert {"1 a <i>first & $x_$", "2 diverged", "3 begun", "Report of 3 runs", "Where the time went"} <= set(texts)
    pictures = [value for tag, name, value in Page(html.read_text()).attributes if (tag, name) == ("img", "alt")]
    assert pictures[:2] == ["Accuracy and speed of training", "Accuracy and time"]
    assert pictures[2:7] == [
        "Training loss of all runs", "Learning rate of all runs", "Top-1 / %, raw weights of all runs",
        "Top-1 / %, EMA weights of all runs", "Where the time went",
    ]  # fmt: skip
    assert len(pictures) == 7 + 3 * 4
    assert [run["epochs_done"] for run in result["runs"]] == [EPOCHS, 0, 0]
    assert all((folder / "curves.png").is_file() for folder in (first, diverged, begun))
    assert not (first / "report.html").exists()


def test_bad_input_gets_one_line_and_writes_nothing(tmp_path: Path) -> None:
    good = make_run(tmp_path / "good")
    empty = make_run(tmp_path / "empty")
    (empty / "log.jsonl").write_text("")
    strange = make_run(tmp_path / "strange")
    (strange / "log.jsonl").write_text('{"event": "epoch"}\n')
    no_run = tmp_path / "none"
    no_run.mkdir()
    for folders, message in [
        ((), "report.runs is empty"),
        ((good, no_run), "none: not the folder of a run"),
        ((good, tmp_path / "gone"), "gone: not the folder of a run"),
        ((good, empty), "no events"),
        ((good, strange), "an event 'epoch' has no 'epoch'"),
    ]:
        with pytest.raises(UserError, match=message) as caught:
            report(*folders)
        assert "\n" not in str(caught.value)
    assert not (good / "report.html").exists()
    assert not (good / "curves.png").exists()
    with pytest.raises(UserError, match=r"pages: cannot be written"):
        (tmp_path / "pages").mkdir()
        report(good, html=str(tmp_path / "pages"))
    write_json(good / "run.json", {"format": 9})
    with pytest.raises(UserError, match="not a run of format 1"):
        report(good)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (3599.4, "59 min 59 s"),
     (3599.6, "1 h 00 min"), (190_800, "53 h 00 min")],
)  # fmt: skip
def test_durations_are_written_in_fitting_units(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text
