from __future__ import annotations

import base64
import csv
import hashlib
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from deit_fast.config import RunConfig
from deit_fast.record.clock import KINDS
from deit_fast.record.log import EventLog
from deit_fast.record.run import RunRecord, open_run, write_json
from deit_fast.record.runs import duration, load_run, price_words, run_numbers
from tests.report.made_up_runs import EPOCHS, SECONDS, Page, bench_eval, make_run, report, write_epoch, write_start

HOSTILE = '<script>alert("1")<!-- \'&amp;\n$x_$ \x01'


def test_page_of_a_run_with_a_hostile_name_has_its_numbers_and_escapes_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_run(tmp_path / HOSTILE)
    result = report(folder, csv=str(tmp_path / "t.csv"))
    html = folder / "report.html"
    assert result["html"] == str(html)
    assert capsys.readouterr().out == f"report of 1 run: {html}\n"
    page = Page(html)
    assert {f"1 {HOSTILE}", f"Report of {HOSTILE}"} <= set(page.texts)
    assert page.values("img", "alt")[:2] == ["Top-1 by time", f"Loss of {HOSTILE}"]
    for row in (
        ["#", "Run", "Top-1", "Images/s", "Wall time", "Cost", "Predicted", "Off", "State", "Epochs", "Raw", "EMA", "Model"],
        [
            "1",
            HOSTILE,
            *["94.00 %", "1,002", "1 min 31 s", "–", "–", "–", "finished", "4 of 4", "92.00 %", "94.00 %", "deit_tiny"],
        ],
        ["1", HOSTILE, "2.5 s", "0.0 s", "1.2 s", "1 min 20 s", "6.0 s", "1.0 s", "0.0 s", "1 min 31 s"],
        ["Parameters", "5,717,416"],
        ["Top-1 EMA, best", "94.00 % after epoch 3"],
        ["Checkpoint", str(folder / "checkpoints/best.pt")],
        ["command", "deit-fast train --x=<b>&"],
        ["train.epochs", "4"],
    ):
        assert row in page.rows
    (numbers,) = result["runs"]
    assert (numbers["finished"], numbers["wall_seconds"], numbers["images_per_second"]) == (True, 90.75, 1001.5)
    assert numbers["seconds"] == SECONDS | {"other": 0.0}
    assert (numbers["top1_model"], numbers["top1_model_epoch"], numbers["top1_ema"]) == (92.0, 2, 94.0)
    json.dumps(result, allow_nan=False)
    with (tmp_path / "t.csv").open(newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == [HOSTILE]
    with Image.open(folder / "curves.png") as image:
        assert min(image.size) > 500
        assert len(set(image.convert("L").tobytes())) > 10  # something is drawn


def test_page_needs_and_runs_nothing_but_what_is_in_it(tmp_path: Path) -> None:
    page = Page(Path(report(make_run(tmp_path / "tiny", finished=False, epochs=2))["html"]))
    assert ["State", "unfinished"] in page.rows
    names = "lang charset http-equiv content name class alt src scope role tabindex aria-label data-place open"
    assert {name for _, name, _ in page.attributes} <= set(names.split())  # no address, style or handler
    assert not [text for text in ("http:", "https:", "url(", "@import") if text in page.html]
    policy, viewport = page.values("meta", "content")
    digests = [
        f"{kind}-src 'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
        for kind, content in page.raw.items()
    ]
    assert policy.split("; ") == ["default-src 'none'", "img-src data:", *digests]
    assert viewport == "width=device-width, initial-scale=1"
    assert page.values("div", "class").count("scroll") == page.html.count("<table")  # on a phone too, only tables are wider
    sources = page.values("img", "src")
    assert len(sources) == 7
    for source in sources:
        kind, _, content = source.partition(",")
        assert kind == "data:image/svg+xml;base64"
        root = ElementTree.fromstring(base64.b64decode(content))
        assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) >= 10  # something is drawn


def test_page_of_results_of_bench_and_of_others(tmp_path: Path) -> None:
    file, gpu = bench_eval(tmp_path / "eval.json", ("cait_s24_224", "fp32", 64, 1500.0)), tmp_path / "gpu.json"
    results = [{"case": "<first>", "rounds": [1, 2]}, {"case": "x" * 999}]
    write_json(gpu, {"results": results, "hardware": {"cpu": "a"}, "config": {}})
    assert report(file, gpu, published=("paper", "ffcv-imagenet"))["html"] == str(tmp_path / "report.html")
    rows = Page(tmp_path / "report.html").rows
    assert ["cait_s24_224", "fp32", "64", "1,500", "1,500 to 1,500", "5", "224"] in rows
    assert ["vit_huge", "fp32", "largest", "–", "does not fit into memory", "–", "–"] in rows
    source = "libffcv/ffcv-imagenet, README"
    assert ["RN-50 16 ep", "73.80 %", "–", "14 min 54 s", "16", "–", "8 A100", source] in rows
    facts = {row[0]: row[1] for row in rows if len(row) == 2}
    assert facts.keys() == {"results.1.case", "results.2.case", "hardware.cpu"}
    assert (facts["results.1.case"], len(facts["results.2.case"])) == ("<first>", 300)


def test_epochs_trained_again_after_a_resume_count_once(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "tiny", finished=False, epochs=3)
    with open_run(folder, RunConfig(), ["deit-fast", "train"], resume=True) as run:
        write_start(run.log, epoch=1)
        write_epoch(run.log, 1, top1=70.0, ema_top1=71.0)
    run_read = load_run(folder)
    assert [event["step"] for event in run_read.steps] == [0, 1, 2, 3]
    numbers = run_numbers(run_read)
    assert (numbers["epochs_done"], numbers["epochs"]) == (2, RunConfig().train.epochs)
    assert (numbers["top1_model"], numbers["top1_ema"]) == (90.0, 92.0)  # of epoch 0: 91 of epoch 1 was replaced by 70
    assert numbers["seconds"] == {**dict.fromkeys(KINDS, 0.0), "compute": 40.0, "data_wait": 1.0}
    assert numbers["checkpoint"] == str(folder / "checkpoints/last.pt")


def test_run_resumed_inside_an_epoch_keeps_the_steps_before(tmp_path: Path) -> None:
    """Epochs of 10 steps; stopped behind step 16, after a checkpoint behind step 13, from which the next session goes on."""
    folder = tmp_path / "stopped"

    def steps(run: RunRecord, first: int, last: int, loss: float) -> None:
        for step in range(first, last + 1):
            run.write("step", epoch=step // 10, step=step, loss=loss, top1=10.0 + step, lr=1e-3)

    with open_run(folder, RunConfig(), ["deit-fast", "train"], resume=False) as run:
        run.write("distillation", kind="hard")
        write_start(run.log, step=0, steps_per_epoch=10)
        steps(run, 0, 9, 3.0)
        run.write("epoch", epoch=0, loss=3.0, lr=1e-3, images_per_second=100.0, seconds={"compute": 100.0})
        run.write("eval", epoch=0, weights="model", top1=20.0, loss=2.0)
        steps(run, 10, 12, 2.0)
        run.write("checkpoint", epoch=1, step=3, path="checkpoints/epoch-1-step-3.pt", best=False)
        run.write("checkpoint_failed", error="No space left on device")
        steps(run, 13, 15, 9.0)
        run.write("stopped", reason="SIGKILL", epoch=1, step=6)
    with open_run(folder, RunConfig(), ["deit-fast", "train"], resume=True) as run:
        write_start(run.log, epoch=1, step=3, steps_per_epoch=10)
        steps(run, 13, 14, 1.0)
    run_read = load_run(folder)
    losses = [3.0] * 10 + [2.0] * 3 + [1.0] * 2
    assert [(event["step"], event["loss"]) for event in run_read.steps] == list(enumerate(losses))
    numbers = run_numbers(run_read)
    assert (numbers["epochs_done"], numbers["train_top1"]) == (1, 24.0)
    assert numbers["checkpoint"] == str(folder / "checkpoints/epoch-1-step-3.pt")


def test_finished_run_that_goes_on_is_unfinished_again(tmp_path: Path) -> None:
    folder = make_run(tmp_path / "tiny")
    with EventLog(folder / "log.jsonl") as log:
        write_start(log, epoch=EPOCHS)
    assert load_run(folder).end is None
    assert run_numbers(load_run(folder))["epochs_done"] == EPOCHS


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (0.04, "0.0 s"), (59.94, "59.9 s"), (59.96, "1 min 00 s"), (3599.4, "59 min 59 s"),
     (3599.6, "1 h 00 min"), (190_800, "53 h 00 min")],
)  # fmt: skip
def test_durations_are_written_in_fitting_units(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_prices_have_cents_or_two_digits() -> None:
    words = ["$0.00", "$0.00034", "$0.099", "$0.10", "$1,234.50"]
    assert [price_words(price) for price in (0.0, 0.000337, 0.099, 0.1, 1234.5)] == words
